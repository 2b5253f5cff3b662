"""The published weights that a run starts from: the files of `init_from` in the config."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import jax
import numpy as np
from absl import logging

from fetal_jax import convert
from fetal_jax.convert import adapt, guided_diffusion, names, rules
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
    part: which part of the file they are, in words; empty: all of it.
  """

  path: pathlib.Path
  state: Mapping[str, np.ndarray]
  sha256: str
  part: str = ''


def load(path: str) -> Weights:
  """Reads a file of weights.

  Raises:
    UserError: it is missing, damaged, or of another kind.
  """
  arrays, part = weight_files.read(path)
  return Weights(pathlib.Path(path), arrays, sha256(path), part)


class LoadedFile(TypedDict):
  """The file that was loaded into a network, as JSON for its checkpoints.

  Attributes:
    file: name of the file.
    sha256: of its bytes.
    part: which part of the file was loaded, in words; empty: all of it.
    changes: by entry of the file, what was changed to make it fit.
  """

  file: str
  sha256: str
  part: str
  changes: dict[str, str]


def diffusion_params(
  paths: Sequence[str],
  nets: Mapping[str, Any],
  fresh: Mapping[str, Any],
  image_shape: tuple[int, int, int],
  *,
  new_attention_order: bool = False,
) -> tuple[dict[str, Any], dict[str, LoadedFile]]:
  """Loads the UNet and the guide from files.

  Args:
    paths: of the files, at most one for each network.
    nets: linen modules 'unet' and 'guide', those that are trained.
    fresh: their parameters as initialised, on the host.
    image_shape: (H, W, C).
    new_attention_order: the order of the UNet's attention heads in its file; see `guided_diffusion.describe`.

  Returns:
    The parameters, fresh ones where no file has any, and by network what was loaded.

  Raises:
    UserError: a file is of no network that is trained, two files are of the same one, or sizes differ.
  """
  params: dict[str, Any] = dict(fresh)
  loaded: dict[str, LoadedFile] = {}
  for path in paths:
    weights = load(path)
    entries = names.find(weights.state, guided_diffusion.FIRST).entries
    name = 'unet' if any(entry.startswith('output_blocks.') for entry in entries) else 'guide'
    if guided_diffusion.FIRST not in entries:
      raise UserError(f'config.diffusion.init_from={path}: not a UNet or classifier of guided-diffusion')
    if name not in nets:
      raise UserError(
        f'config.diffusion.init_from={path}: weights of the {name}, which config.diffusion.train={next(iter(nets))} '
        'leaves out'
      )
    if name in loaded:
      raise UserError(f'config.diffusion.init_from={path}: a second file of the {name}; leave one out')
    new_order = name == 'unet' and new_attention_order
    variables, changes = _fit_diffusion(path, name, weights, nets[name], fresh[name], image_shape, new_order)
    params[name] = variables['params']
    loaded[name] = {
      'file': weights.path.name,
      'sha256': weights.sha256,
      'part': weights.part,
      'changes': dict(changes),
    }
    _log(name, weights, changes, variables)
  return params, loaded


def _fit_diffusion(
  path: str,
  name: str,
  weights: Weights,
  net: Any,
  fresh: Any,
  image_shape: tuple[int, int, int],
  new_attention_order: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
  """Carries the weights of a file into the network `name`; a refusal names the settings of the file's network."""
  described = guided_diffusion.describe(net, image_shape, use_new_attention_order=new_attention_order)
  try:
    return guided_diffusion.fit(weights.state, described, {'params': fresh})
  except UserError as error:
    told = guided_diffusion.differing(weights.state, described)
    settings = [f'--config.diffusion.{name}.{guided_diffusion.KEYWORDS[k]}={v}' for k, v in told.items()]
    remedy = (
      f"the file's network has {' '.join(settings)}"
      if settings
      else f'set config.diffusion.{name} to the network of the file'
    )
    raise UserError(f'config.diffusion.init_from={path}: {error}; {remedy}') from error


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
      found, outside, _ = convert.todays_names(name, state)
      ours = entries[name]
      common = found.keys() & ours.keys()
      same = sum(np.shape(found[entry]) == ours[entry].shape for entry in common)
      return len(common) / len((found.keys() - outside) | ours.keys()), same

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
  """Returns the variables of the classifier `name`: those of the file in place of the `fresh` ones (on the host).

  Raises:
    UserError: the file is of another network.
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
  """Logs what was loaded and what was not."""
  fresh = sum(said.startswith(adapt.NOT_LOADED) for said in changes.values())
  leaves = jax.tree.leaves(variables)
  logging.info(
    '%s: starts from %s (sha256 %s…%s): %d of %d arrays loaded, %s.',
    name,
    weights.path,
    weights.sha256[:12],
    weights.part and f', its {weights.part}',
    len(leaves) - fresh,
    len(leaves),
    '; '.join(f'{entry} {said}' for entry, said in changes.items()) or 'all as they are',
  )
