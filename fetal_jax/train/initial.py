"""The weights that a run starts from where it does not start from scratch: `init_from` of the config."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from fetal_jax import convert
from fetal_jax.convert import adapt, guided_diffusion, rules
from fetal_jax.convert import files as weight_files
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import sha256


@dataclasses.dataclass(frozen=True)
class Weights:
  """One file of weights.

  Attributes:
    path: of the file.
    state: arrays by PyTorch name.
    sha256: of the file's bytes.
  """

  path: pathlib.Path
  state: Mapping[str, np.ndarray]
  sha256: str


def load(path: str) -> Weights:
  """Reads a file of weights.

  Raises:
    UserError: it is not there, damaged, or of another kind.
  """
  return Weights(pathlib.Path(path), weight_files.load(path), sha256(path))


def diffusion_params(
  config: ml_collections.ConfigDict,
  nets: Mapping[str, Any],
  fresh: Mapping[str, Any],
  image_shape: tuple[int, int, int],
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Parameters of the UNet and the guide with those of `config.diffusion.init_from` in their place.

  Args:
    config: of the run.
    nets: linen modules 'unet' and 'guide', those that are trained.
    fresh: their parameters as initialised, on the host.
    image_shape: (H, W, C).

  Returns:
    The parameters, and by network an account of what was loaded.

  Raises:
    UserError: a file is of no network that is trained, two are of the same one, or the sizes differ.
  """
  params, accounts = dict(fresh), {}
  for path in config.diffusion.init_from:
    weights = load(path)
    name = 'unet' if any(entry.startswith('output_blocks.') for entry in weights.state) else 'guide'
    if 'input_blocks.0.0.weight' not in weights.state:
      raise UserError(f'config.diffusion.init_from={path}: not a UNet or classifier of guided-diffusion')
    if name not in nets:
      raise UserError(
        f'config.diffusion.init_from={path}: weights of the {name}, which config.diffusion.train={config.diffusion.train} '
        'leaves out'
      )
    if name in accounts:
      raise UserError(f'config.diffusion.init_from={path}: a second file of the {name}; leave one out')
    try:
      new_order = name == 'unet' and config.diffusion.init_new_attention_order
      described = guided_diffusion.describe(nets[name], image_shape, use_new_attention_order=new_order)
      variables, changes = guided_diffusion.fit(weights.state, described, {'params': fresh[name]})
    except UserError as error:
      raise UserError(
        f'config.diffusion.init_from={path}: {error}. Set config.diffusion.{name} to the network of the file'
      ) from error
    params[name], accounts[name] = (
      variables['params'],
      {
        'file': weights.path.name,
        'sha256': weights.sha256,
        'changes': changes,
      },
    )
    _log(name, weights, changes, variables)
  return params, accounts


def assign(paths: Sequence[str], networks: Mapping[str, Mapping[str, Any]]) -> dict[str, Weights]:
  """Finds the classifier that each file of weights is for, by the names and shapes of its entries.

  Args:
    paths: of the files.
    networks: by name of the classifier, the shapes of its variables (`jax.eval_shape` of `init`).

  Returns:
    The files by name of the classifier; classifiers without one are absent.

  Raises:
    UserError: a file is of none of them, or two files are of the same one.
  """
  entries = {
    name: rules.torch_leaves(rules.derive(shapes, convert.RENAMES[name]), shapes)
    for name, shapes in networks.items()
  }
  assigned: dict[str, Weights] = {}
  for path in paths:
    weights = load(path)

    def likeness(name: str, state: Mapping[str, np.ndarray] = weights.state) -> tuple[float, int]:
      found, ours = convert.todays_names(name, state), entries[name]
      common = found.keys() & ours.keys()
      same = sum(np.shape(found[entry]) == ours[entry].shape for entry in common)
      return len(common) / len(found.keys() | ours.keys()), same

    name = max(entries, key=likeness)
    if likeness(name)[0] < 0.5:
      raise UserError(
        f'config.classify.init_from={path}: its entries are of none of {", ".join(entries)}; add its model to '
        'config.classify.models, or leave the file out'
      )
    if name in assigned:
      raise UserError(
        f'config.classify.init_from: {assigned[name].path} and {path} are both weights of {name}; leave one out'
      )
    assigned[name] = weights
  return assigned


def classifier_variables(name: str, weights: Weights, fresh: Mapping[str, Any]) -> dict[str, Any]:
  """Variables of the classifier `name`, those of the file in place of `fresh` ones (on the host).

  Raises:
    UserError: the network is not the file's.
  """
  try:
    variables, changes = convert.fit(name, weights.state, fresh)
  except UserError as error:
    raise UserError(
      f'config.classify.init_from={weights.path}: {error}. Set config.classify.model_args.{name} to the network of '
      'the file'
    ) from error
  _log(name, weights, changes, variables)
  return variables


def _log(name: str, weights: Weights, changes: Mapping[str, str], variables: Mapping[str, Any]) -> None:
  """Says what was loaded and what was not."""
  fresh = sum(said.startswith(adapt.NOT_LOADED) for said in changes.values())
  leaves = jax.tree.leaves(variables)
  logging.info(
    '%s: starts from %s (sha256 %s…): %d of %d arrays loaded, %s.',
    name,
    weights.path,
    weights.sha256[:12],
    len(leaves) - fresh,
    len(leaves),
    '; '.join(f'{entry} {said}' for entry, said in changes.items()) or 'all as they are',
  )
