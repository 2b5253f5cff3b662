"""Adapters that fit weights to a network of other channels, classes or image size than they were made for.

An adapter takes one PyTorch entry and the array that the network has in its place, and returns the fitted entry
and what was done, in words; or the entry as it was, and no words, where it is of another network altogether.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import jax
import numpy as np

Adapter = Callable[[str, np.ndarray, Any], tuple[np.ndarray, str]]

NOT_LOADED = 'not loaded'


def fit(
  state_dict: Mapping[str, np.ndarray], network: Mapping[str, Any], adapters: Mapping[str, Adapter]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Applies its adapter to every entry whose shape is not the network's.

  Returns:
    The state dict, and by entry what was done.
  """
  state, changes = dict(state_dict), {}
  for name, adapter in adapters.items():
    if name in state and name in network and np.shape(state[name]) != np.shape(network[name]):
      state[name], changes[name] = adapter(name, np.asarray(state[name], np.float32), network[name])
  return state, {name: said for name, said in changes.items() if said}


def leave_out(
  state_dict: Mapping[str, np.ndarray], known: Container[str], may: Callable[[str], bool]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Leaves out the entries that are not `known`, of those that `may` be left out; returns the rest, and what was done."""
  dropped = [name for name in state_dict if name not in known and may(name)]
  state = {name: value for name, value in state_dict.items() if name not in dropped}
  more = f', as are {len(dropped) - 1} more' if len(dropped) > 1 else ''
  return state, {dropped[0]: f'left out: no part of this network{more}'} if dropped else {}


def fill(
  state_dict: Mapping[str, np.ndarray], network: Mapping[str, Any], ends: Iterable[str]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Takes those of `ends`, the outermost layers, that are missing from the network's own initialisation."""
  missing = [name for name in ends if name in network and name not in state_dict]
  fresh = {name: np.asarray(network[name], np.float32) for name in missing}
  return {**state_dict, **fresh}, dict.fromkeys(missing, f'{NOT_LOADED}, but fresh: the file has none')


def sum_inputs(name: str, weight: np.ndarray, ours: Any) -> tuple[np.ndarray, str]:
  """Fits a first layer [O, I, H, W] to one input channel: a grey image gives what it gave when repeated.

  One of other channels stays as the network has it: fresh.
  """
  found, wanted = weight.shape[1], ours.shape[1]
  if found == wanted or (len(weight), *weight.shape[2:]) != (len(ours), *ours.shape[2:]):
    return weight, ''
  if wanted != 1:
    return np.asarray(
      ours, np.float32
    ), f'{NOT_LOADED}, but fresh: {found} input channels there, {wanted} here'
  return weight.sum(1, keepdims=True), f'summed over {found} input channels'


def average_outputs(name: str, weight: np.ndarray, ours: Any) -> tuple[np.ndarray, str]:
  """Fits a last layer [k * C, ...] to [k, ...]: the mean over C channels of each of k outputs (noise, variance).

  One of other outputs stays as the network has it: fresh.
  """
  found, wanted = len(weight), ours.shape[0]
  if weight.shape[1:] != ours.shape[1:]:
    return weight, ''
  if wanted > 2 or found != 3 * wanted:
    said = f'{found} outputs there, {wanted} here, so channels or learn_sigma differ'
    return np.asarray(ours, np.float32), f'{NOT_LOADED}, but fresh: {said}'
  mean = weight.reshape(wanted, found // wanted, *weight.shape[1:]).mean(1)
  return mean, f'averaged over {found // wanted} output channels'


def keep_fresh(name: str, weight: np.ndarray, ours: Any) -> tuple[np.ndarray, str]:
  """Keeps the network's own initialisation, because the rows stand for other classes."""
  if weight.shape[1:] != ours.shape[1:]:
    return weight, ''
  return np.asarray(
    ours, np.float32
  ), f'{NOT_LOADED}, but fresh: {len(weight)} classes there, {len(ours)} here'


def interpolate_positions(name: str, embedding: np.ndarray, ours: Any) -> tuple[np.ndarray, str]:
  """Fits position embeddings [1, 1 + grid^2, C] to another square grid (bicubic); the first token stays."""
  if embedding.shape[2] != ours.shape[2]:
    return embedding, ''
  old, new = math.isqrt(embedding.shape[1] - 1), math.isqrt(ours.shape[1] - 1)
  first, rest = np.split(embedding, [1], axis=1)
  rest = rest.reshape(1, old, old, -1)
  rest = np.asarray(jax.image.resize(rest, (1, new, new, rest.shape[-1]), 'bicubic'))
  said = f'interpolated from {old}x{old} to {new}x{new} positions'
  return np.concatenate([first, rest.reshape(1, new * new, -1)], axis=1), said


def interpolate_pool(name: str, embedding: np.ndarray, ours: Any) -> tuple[np.ndarray, str]:
  """Fits the position embeddings of the half U-Net's attention pool, [C, 1 + grid^2], in the same way."""
  like = jax.ShapeDtypeStruct((1, ours.shape[1], ours.shape[0]), np.float32)
  fitted, said = interpolate_positions(name, embedding.T[None], like)
  return fitted[0].T, said
