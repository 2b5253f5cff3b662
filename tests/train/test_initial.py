"""`init_from`: published weights, as the files that users have, start a run."""

import json
import re
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fetal_jax import config as config_lib
from fetal_jax import convert, models, networks
from fetal_jax.convert import guided_diffusion as gd
from fetal_jax.data import prepare
from fetal_jax.runtime.checkpoint import Checkpointer
from fetal_jax.runtime.errors import UserError
from fetal_jax.runtime.files import read_json
from fetal_jax.sample.trained import load_trained
from fetal_jax.train import classify, diffusion, initial

SMALL = {
  'resnet50': {'width': 8, 'depths': (1, 1)},
  'densenet169': {'growth': 8, 'blocks': (1, 1), 'init_features': 8},
  'vit_b_32': {'patch_size': 8, 'hidden_size': 16, 'depth': 1, 'heads': 2, 'mlp_dim': 32, 'image_size': 16},
  'swin_t': {'embed_dim': 8, 'depths': (1, 2), 'heads': (1, 2), 'window': 2, 'patch_size': 2},
  'medmamba_t': {'dims': (8, 16), 'depths': (1, 1), 'd_state': 4, 'patch_size': 2},
  'medmamba_s': {'dims': (8, 16), 'depths': (1, 2), 'd_state': 4, 'patch_size': 2},
}


def write_safetensors(path, state):
  """As its specification says: the header's length, the header, the bytes."""
  header, offset = {}, 0
  for name, value in state.items():
    header[name] = {'dtype': 'F32', 'shape': value.shape, 'data_offsets': [offset, offset + value.nbytes]}
    offset += value.nbytes
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + b''.join(v.tobytes() for v in state.values()))
  return str(path)


def shapes(name, channels=1, classes=6):
  model = models.create(name, num_classes=classes, **SMALL[name])
  return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, channels)))


def filled(tree, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), tree)


def classifier_file(folder, name, **kwargs):
  state = convert.to_torch(name, filled(shapes(name, **kwargs)))
  return write_safetensors(folder / f'{name}.safetensors', state)


def test_files_find_their_classifiers(tmp_path):
  paths = {name: classifier_file(tmp_path, name, channels=3, classes=10) for name in SMALL}
  assigned = initial.assign(list(paths.values())[::-1], {name: shapes(name) for name in SMALL})
  assert {name: str(weights.path) for name, weights in assigned.items()} == paths
  assert len({weights.sha256 for weights in assigned.values()}) == len(SMALL)


def test_files_of_no_model_and_of_the_same_model_are_refused(tmp_path):
  path = classifier_file(tmp_path, 'resnet50')
  with pytest.raises(UserError, match=r'resnet50\.safetensors: its entries are of none of vit_b_32, swin_t;'):
    initial.assign([path], {name: shapes(name) for name in ('vit_b_32', 'swin_t')})
  with pytest.raises(UserError, match='are both weights of resnet50; leave one out'):
    initial.assign([path, path], {'resnet50': shapes('resnet50')})


def test_another_width_says_which_setting_describes_the_file(tmp_path):
  weights = initial.load(classifier_file(tmp_path, 'resnet50'))
  wider = models.create('resnet50', width=16, depths=(1, 1))
  fresh = jax.eval_shape(wider.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
  with pytest.raises(
    UserError, match=r'bn1.* has shape \[8\], expected \[16\].*Set config\.classify\.model_args\.resnet50'
  ):
    initial.classifier_variables('resnet50', weights, fresh)


def smoke(**settings):
  config = config_lib.load_file('configs/smoke.py')
  for key, value in settings.items():
    config_lib.override(config, key.replace('__', '.'), value)
  config_lib.validate(config)
  return config


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('initial')
  prepare.run(smoke(data__phantom_images='60'), folder)
  return folder


WIDE = {f'diffusion__{net}__{key}': '32' for net in ('unet', 'guide') for key in ('norm_groups', 'width')}


def published(folder, name, net):
  """A file as guided-diffusion publishes them, of `net` but for 3 channels and 10 classes; and what it holds."""
  net = net.clone(num_classes=10, **({'out_channels': 6} if name == 'unet' else {}))
  described = gd.describe(net, (16, 16, 3), use_new_attention_order=name == 'unet')
  x, t = jnp.zeros((1, 16, 16, 3)), jnp.zeros(1, jnp.int32)
  inputs = (x, t, t) if name == 'unet' else (x, t)
  state = gd.to_torch(filled(jax.eval_shape(net.init, jax.random.key(0), *inputs)), described)
  return write_safetensors(folder / f'{name}.safetensors', state), state


def test_guided_diffusions_weights_take_the_place_of_fresh_ones(tmp_path, caplog):
  config = smoke(**WIDE, diffusion__init_new_attention_order='true')
  nets = {'unet': networks.make_unet(config, 6), 'guide': networks.make_guide(config, 6)}
  files = {name: published(tmp_path, name, net) for name, net in nets.items()}
  config.diffusion.init_from = tuple(path for path, _ in files.values())
  x, t = jnp.zeros((1, 16, 16, 1)), jnp.zeros(1, jnp.int32)
  inputs = {'unet': (x, t, t), 'guide': (x, t)}
  fresh = {
    name: filled(jax.eval_shape(net.init, jax.random.key(0), *inputs[name])['params'], seed=1)
    for name, net in nets.items()
  }
  with caplog.at_level('INFO', 'absl'):
    params, accounts = initial.diffusion_params(
      config.diffusion.init_from, nets, fresh, (16, 16, 1), new_attention_order=True
    )

  adapted = {
    'unet': {'input_blocks.0.0.weight', 'out.2.weight', 'out.2.bias', 'label_emb.weight'},
    'guide': {'input_blocks.0.0.weight', 'out.2.c_proj.weight', 'out.2.c_proj.bias'},
  }
  for name, net in nets.items():
    described = gd.describe(net, (16, 16, 1), use_new_attention_order=name == 'unet')
    entries, state = gd.to_torch({'params': params[name]}, described), files[name][1]
    assert accounts[name]['changes'].keys() == adapted[name]
    assert f'{name}: starts from {files[name][0]}' in caplog.text
    for entry in entries.keys() - adapted[name]:
      np.testing.assert_array_equal(entries[entry], state[entry], err_msg=entry)
  assert (
    f'{len(jax.tree.leaves(fresh["unet"])) - 1} of {len(jax.tree.leaves(fresh["unet"]))} arrays'
    in caplog.text
  )
  assert 'input_blocks.0.0.weight summed over 3 input channels' in caplog.text
  assert 'label_emb.weight not loaded, but fresh: 10 classes there, 6 here' in caplog.text

  config.diffusion.init_from = (files['unet'][0],) * 2
  with pytest.raises(UserError, match='a second file of the unet; leave one out'):
    initial.diffusion_params(config.diffusion.init_from, nets, fresh, (16, 16, 1), new_attention_order=True)
  config.diffusion.init_from = (files['guide'][0],)
  wide = {**nets, 'guide': nets['guide'].clone(width=64)}
  wider = jax.eval_shape(wide['guide'].init, jax.random.key(0), *inputs['guide'])['params']
  with pytest.raises(
    UserError, match=r"expected .*the file's network has --config\.diffusion\.guide\.width=32$"
  ):
    initial.diffusion_params(config.diffusion.init_from, wide, {**fresh, 'guide': wider}, (16, 16, 1))


def diffusion_file(folder, net, prefix=''):
  """A file of `net` for images like ours, under a prefix."""
  described = gd.describe(net, (16, 16, 1))
  labels = () if net.num_classes is None else (jnp.zeros(1, jnp.int32),)
  shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)), jnp.zeros(1), *labels)
  state = gd.to_torch(filled(shapes), described)
  return write_safetensors(folder / 'unet.safetensors', {prefix + k: v for k, v in state.items()}), state


def test_files_of_unconditional_and_of_improved_diffusions_networks(tmp_path):
  """The first is taken, with fresh labels; of the second, the settings are named with which it is."""
  unet = networks.make_unet(smoke(**WIDE), 6)
  inputs = jnp.zeros((1, 16, 16, 1)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
  fresh = {'unet': filled(jax.eval_shape(unet.init, jax.random.key(0), *inputs)['params'], seed=1)}
  path, state = diffusion_file(tmp_path, unet.clone(num_classes=None), 'model.')
  params, accounts = initial.diffusion_params([path], {'unet': unet}, fresh, (16, 16, 1))
  assert accounts['unet']['changes'] == {'label_emb.weight': 'not loaded, but fresh: the file has none'}
  loaded = gd.to_torch({'params': params['unet']}, gd.describe(unet, (16, 16, 1)))
  labels = loaded.pop('label_emb.weight')
  np.testing.assert_array_equal(labels, fresh['unet']['label_embed']['embedding'])
  assert loaded.keys() == state.keys()
  for name in state:
    np.testing.assert_array_equal(loaded[name], state[name], err_msg=name)

  improved = unet.clone(resblock_updown=False, use_scale_shift_norm=False)
  path, _ = diffusion_file(tmp_path, improved)
  with pytest.raises(UserError) as refused:
    initial.diffusion_params([path], {'unet': unet}, fresh, (16, 16, 1))
  message = str(refused.value)
  assert 'has shape' in message
  settings = re.findall(r'--config\.diffusion\.unet\.(\w+)=(\w+)', message)
  assert settings == [('resblock_updown', 'False'), ('use_scale_shift_norm', 'False')]
  advised = {f'diffusion__unet__{key}': value for key, value in settings}
  ours = networks.make_unet(smoke(**WIDE, **advised), 6)
  assert ours == improved
  start = {'unet': filled(jax.eval_shape(ours.init, jax.random.key(0), *inputs)['params'], seed=1)}
  _, accounts = initial.diffusion_params([path], {'unet': ours}, start, (16, 16, 1))
  assert accounts['unet']['changes'] == {}


@pytest.mark.parametrize('prefix', ['model.', '_orig_mod.', 'module._orig_mod.', 'backbone.', 'net.'])
def test_prefixes_do_not_hide_a_classifier(tmp_path, prefix):
  expected = filled(shapes('resnet50'))
  state = {prefix + k: v for k, v in convert.to_torch('resnet50', expected).items()}
  path = write_safetensors(tmp_path / 'w.safetensors', state)
  assigned = initial.assign([path], {name: shapes(name) for name in ('resnet50', 'vit_b_32')})
  loaded = initial.classifier_variables('resnet50', assigned['resnet50'], filled(shapes('resnet50'), seed=1))
  jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def test_which_part_of_a_file_was_loaded_is_said(tmp_path, caplog):
  state = convert.to_torch('resnet50', filled(shapes('resnet50')))
  weights = initial.Weights(
    tmp_path / 'w.pth', state, 'abc', "averages (EMA) 'model_ema', taken in place of 'model'"
  )
  with caplog.at_level('INFO', 'absl'):
    initial.classifier_variables('resnet50', weights, filled(shapes('resnet50'), seed=1))
  assert "sha256 abc…, its averages (EMA) 'model_ema', taken in place of 'model'):" in caplog.text


@pytest.mark.slow
def test_guided_diffusions_weights_start_the_diffusion_stage(workdir, tmp_path):
  """A step of size nearly 0 leaves weights and averages where they started: in the file."""
  settings = {'data__phantom_images': '60', 'diffusion__train': 'unet', 'sample__guidance_scale': '0', **WIDE}
  settings |= {'diffusion__unet__channel_mult': '(1,)', 'diffusion__unet__attention_resolutions': '()'}
  settings |= {'diffusion__steps': '2', 'diffusion__learning_rate': '1e-30'}
  unet = networks.make_unet(smoke(**settings), 6)
  path, state = published(tmp_path, 'unet', unet)
  assert diffusion.run(smoke(**settings, diffusion__init_from=path), workdir)

  with Checkpointer(workdir / 'diffusion' / 'checkpoints', keep=None) as checkpointer:
    assert checkpointer.restore_meta(2)['init_from']['unet']['file'] == 'unet.safetensors'
  averages = {'params': load_trained(workdir).params['unet']}
  entries = gd.to_torch(averages, gd.describe(unet, (16, 16, 1)))
  for name in entries.keys() - {'input_blocks.0.0.weight', 'out.2.weight', 'out.2.bias', 'label_emb.weight'}:
    np.testing.assert_allclose(entries[name], state[name], atol=1e-6, err_msg=name)
  summed = state['input_blocks.0.0.weight'].sum(1, keepdims=True)
  np.testing.assert_allclose(entries['input_blocks.0.0.weight'], summed, atol=1e-6)


def test_a_file_for_a_network_that_is_not_trained_is_refused(tmp_path):
  path = write_safetensors(
    tmp_path / 'w.safetensors', {'input_blocks.0.0.weight': np.zeros((4, 3, 3, 3), np.float32)}
  )
  other = write_safetensors(tmp_path / 'x.safetensors', {'conv1.weight': np.zeros((4, 3, 3, 3), np.float32)})
  for file, message in [(path, 'weights of the guide, which .*train=unet leaves out'), (other, 'not a UNet')]:
    with pytest.raises(UserError, match=message):
      initial.diffusion_params((file,), {'unet': None}, {}, (16, 16, 1))


def test_torchvisions_weights_start_the_classify_stage(workdir, tmp_path):
  path = classifier_file(tmp_path, 'vit_b_32', channels=3, classes=10)
  settings = {'data__phantom_images': '60', 'classify__models': 'vit_b_32', 'classify__regimes': 'real'}
  config = smoke(**settings, classify__learning_rate='1e-30', classify__init_from=path)
  assert classify.run(config, workdir)
  run = workdir / 'classify' / 'vit_b_32' / 'real' / 'seed_0'
  assert read_json(run / 'metrics.json')['init_from']['file'] == 'vit_b_32.safetensors'
  with Checkpointer(run / 'selected', keep=1) as checkpointer:
    like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes('vit_b_32'))
    saved, _ = checkpointer.restore(checkpointer.latest_step(), like)
  entries = convert.to_torch('vit_b_32', saved)
  state = initial.load(path).state
  for name in state.keys() - {'conv_proj.weight', 'heads.head.weight', 'heads.head.bias'}:
    np.testing.assert_allclose(entries[name], state[name], atol=1e-6, err_msg=name)
  np.testing.assert_allclose(
    entries['conv_proj.weight'], state['conv_proj.weight'].sum(1, keepdims=True), atol=1e-6
  )

  assert not classify.run(config, workdir)  # done
  with pytest.raises(UserError, match='done before with other settings or data'):
    classify.run(smoke(**settings, classify__learning_rate='1e-30'), workdir)


def test_a_missing_file_is_named_before_anything_runs():
  with pytest.raises(UserError, match=r"config\.classify\.init_from='nowhere\.pth': no such file"):
    smoke(classify__init_from='nowhere.pth')
