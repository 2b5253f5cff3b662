"""The diffusion networks under test: built as the project builds them, with random weights."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.sizes import CLASSES, diffusion_config
from fetal_jax import networks
from fetal_jax.convert import guided_diffusion
from fetal_jax.diffusion.schedule import Process
from fetal_jax.runtime import devices


@dataclasses.dataclass(frozen=True)
class Model:
  """A UNet and its guide.

  Attributes:
    params: {'unet': ..., 'guide': ...}, float32. Not those of fresh networks, which put out zeros: they would
      compare equal to anything.
  """

  config: ml_collections.ConfigDict
  unet: Any
  guide: Any
  params: dict[str, Any]

  @property
  def image_shape(self) -> tuple[int, int, int]:
    side = self.config.data.image_size
    return side, side, self.config.data.channels

  @property
  def parameters(self) -> dict[str, int]:
    """How many there are in each network."""
    return {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in self.params.items()}


@functools.cache
def _mesh() -> jax.sharding.Mesh:
  return devices.make_local_mesh()


def everywhere() -> jax.sharding.NamedSharding:
  """Returns the sharding of arrays that every device holds."""
  return devices.replicated(_mesh())


def whole(tree: Any) -> Any:
  """Arrays on every device (a CPU's cores are devices), as the project lays weights out."""
  return jax.device_put(tree, everywhere())


def spread(tree: Any, axis: int = 0) -> Any:
  """Arrays spread over the devices along `axis`, as the project lays batches out."""
  return jax.device_put(tree, devices.batch_sharding(_mesh(), axis))


@functools.lru_cache(maxsize=1)
def make_model(name: str) -> Model:
  """Builds the networks that `sizes.diffusion_config` names."""
  config = diffusion_config(name)
  unet, guide = networks.make_unet(config, CLASSES), networks.make_guide(config, CLASSES)
  side, channels = config.data.image_size, config.data.channels

  x, t = jnp.zeros((1, side, side, channels)), jnp.zeros((1,), jnp.int32)
  shapes = {
    'unet': jax.eval_shape(unet.init, jax.random.key(0), x, t, t)['params'],
    'guide': jax.eval_shape(guide.init, jax.random.key(0), x, t)['params'],
  }
  rng = np.random.default_rng(0)

  def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
    noise = rng.standard_normal(leaf.shape, np.float32)
    if path[-1].key == 'scale':  # of a norm
      return jnp.asarray(1 + 0.1 * noise)
    return jnp.asarray(noise / np.sqrt(leaf.size / leaf.shape[-1]) if leaf.ndim > 1 else 0.1 * noise)

  return Model(config, unet, guide, whole(jax.tree_util.tree_map_with_path(draw, shapes)))


def torch_configs(model: Model) -> dict[str, dict[str, Any]]:
  """Describes the same networks in guided-diffusion's keywords."""
  unet, guide, (side, _, channels) = (
    model.config.diffusion.unet,
    model.config.diffusion.guide,
    model.image_shape,
  )

  def shared(c: ml_collections.ConfigDict) -> dict[str, Any]:
    return {
      'image_size': side,
      'in_channels': channels,
      'model_channels': c.width,
      'num_res_blocks': c.num_res_blocks,
      'attention_resolutions': tuple(side // resolution for resolution in c.attention_resolutions),
      'channel_mult': tuple(c.channel_mult),
      'num_head_channels': c.num_head_channels or -1,
      'use_scale_shift_norm': True,
      'resblock_updown': True,
      'use_new_attention_order': True,
    }

  return {
    'unet': shared(unet)
    | {'out_channels': 2 * channels, 'num_heads': unet.num_heads, 'num_classes': CLASSES},
    'guide': shared(guide) | {'out_channels': CLASSES, 'num_heads': 1, 'pool': guide.pool},
  }


def torch_weights(model: Model) -> dict[str, np.ndarray]:
  """Returns all weights under guided-diffusion's names, after `unet/` or `guide/`."""
  weights = {}
  for name, config in torch_configs(model).items():
    state_dict = guided_diffusion.to_torch({'params': model.params[name]}, config)
    weights |= {f'{name}/{key}': np.ascontiguousarray(value) for key, value in state_dict.items()}
  return weights


def torch_tables(process: Process) -> dict[str, np.ndarray]:
  """Returns the process's tables as `torch_diffusion` names them."""
  tables = {
    'x_of_x0': np.sqrt(process.alphas_cumprod),
    'x_of_eps': np.sqrt(1 - process.alphas_cumprod),
    'x0_of_x': np.sqrt(1 / process.alphas_cumprod),
    'x0_of_eps': np.sqrt(1 / process.alphas_cumprod - 1),
    'mean_of_x0': process.posterior_mean_coef1,
    'mean_of_x': process.posterior_mean_coef2,
    'posterior_log_variance': process.posterior_log_variance_clipped,
    'log_beta': np.log(process.betas),
  }
  tables = {f'tables/{name}': table.astype(np.float32) for name, table in tables.items()}
  return tables | {'tables/timesteps': process.timesteps}


def labels(batch: int) -> jax.Array:
  """int32 [batch], the classes in turn."""
  return jnp.arange(batch, dtype=jnp.int32) % CLASSES
