"""The notebooks run from top to bottom, at the smallest size, and are committed with outputs that others can look at."""

import json
import re

import nbformat
import pytest
from tools.notebook_runner import NOTEBOOKS, ROOT, execute, pictures, printed, tidy

from fetal_jax.runtime.files import read_json

# 8 px, no attention, one classifier: what is left compiles in seconds.
TINY = [
  '--config.data.image_size=8',
  *(
    f'--config.diffusion.{network}.{setting}'
    for network in ('unet', 'guide')
    for setting in ('width=8', 'channel_mult=(1,)', 'attention_resolutions=()', 'num_head_channels=8')
  ),
  '--config.diffusion.guide.pool=adaptive',
  '--config.diffusion.steps=8',
  '--config.diffusion.eval_every=8',
  '--config.diffusion.preview_every=8',
  '--config.classify.models=resnet50',
  '--config.classify.regimes=real,synth_r1',
  '--config.classify.curve=()',
  '--config.evaluate.max_images=24',
]
COMMITTED = sorted(NOTEBOOKS.glob('*.ipynb'))
MOST_BYTES = 600_000


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory):
  """The quick start's notebook and the workdir that it left."""
  workdir = tmp_path_factory.mktemp('notebook') / 'run'
  path = NOTEBOOKS / 'quickstart_colab.ipynb'
  return execute(path, config='configs/smoke.py', workdir=str(workdir), settings=TINY), workdir


def real_accuracy(workdir) -> float:
  """Of the classifier that saw real images alone."""
  return read_json(workdir / 'classify' / 'resnet50' / 'real' / 'seed_0' / 'metrics.json')['test_accuracy']


@pytest.mark.slow
def test_quickstart(quickstart):
  notebook, workdir = quickstart
  assert re.search(r'step +8: q0 [01]\.\d\d, q1 ', printed(notebook))
  assert pictures(notebook) >= 4
  assert f'resnet50 real seed 0: test accuracy {real_accuracy(workdir):.3f}' in printed(notebook)
  for sentence in read_json(workdir / 'report' / 'results.json')['summary']['sentences']:
    assert sentence in printed(notebook)


# The notebook for large sets goes on with what the one for own images leaves: a finished run too, and no second one is needed. That for
# results is run in tests/test_end_to_end.py, on the run there.


@pytest.fixture(scope='module')
def own(tmp_path_factory):
  """The notebook for own images and the workdir that it left."""
  workdir = tmp_path_factory.mktemp('own') / 'run'
  path = NOTEBOOKS / 'your_own_images.ipynb'
  return execute(path, config='configs/smoke.py', workdir=str(workdir), settings=TINY), workdir


@pytest.mark.slow
def test_own_images(own):
  notebook, workdir = own
  assert '240 images, patients on both sides: 0' in printed(notebook)
  exported = sorted(path.name for path in (workdir / 'dataset' / 'train').iterdir() if path.is_dir())
  assert exported == ['checks', 'rays', 'rings', 'spirals', 'spots', 'stripes']


@pytest.mark.slow
def test_a_large_set_is_drawn_and_exported(own, tmp_path):
  notebook = execute(
    NOTEBOOKS / 'tpu_sampling.ipynb',
    trained=str(own[1]),
    config='configs/smoke.py',
    workdir=str(tmp_path / 'large'),
    rounds=1,
    per_class=3,
    steps=4,  # as in the config, and so is the batch: the program is compiled already
    batch_size=16,
    settings=TINY,
    out=str(tmp_path / 'out'),
  )
  assert '18 images' in printed(notebook)
  assert len(list((tmp_path / 'out' / 'train').glob('*/*.png'))) == 18
  manifest = read_json(tmp_path / 'large' / 'synthetic' / 'round_1' / 'manifest.json')
  assert manifest['complete']
  assert manifest['sampler']['steps'] == 4


def test_a_parameter_that_is_not_there_is_refused():
  with pytest.raises(KeyError, match='no parameter wordkir'):
    execute(NOTEBOOKS / 'results.ipynb', wordkir='x')


@pytest.mark.parametrize('path', COMMITTED, ids=lambda path: path.stem)
def test_committed_outputs_can_be_looked_at(path):
  """Run in order, without errors, with pictures, small, and with no word of the machine that they were made on."""
  text = path.read_text(encoding='utf-8')
  notebook = nbformat.reads(text, as_version=4)
  nbformat.validate(notebook)
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
  assert not [o for cell in code for o in cell.outputs if o.output_type == 'error']
  assert pictures(notebook) >= 1
  assert len(text.encode()) < MOST_BYTES
  said = json.dumps([cell.outputs for cell in code])
  assert not re.search(r'(?<![\w.])/(work|tmp|root|home|Users|opt|usr)/', said)


@pytest.mark.parametrize('path', COMMITTED, ids=lambda path: path.stem)
def test_only_colab_installs(path):
  """Lines for the shell stand under the question whether this is Colab, and are all that is installed."""
  for cell in nbformat.read(path, as_version=4).cells:
    if cell.cell_type == 'code':
      lines = cell.source.splitlines()
      shell = [line for line in lines if line.lstrip().startswith(('!', '%'))]
      assert all(line.startswith('  ') for line in shell)
      assert not shell or "if 'google.colab' in sys.modules:" in lines


def test_tidying_takes_this_place_out_of_outputs():
  stream = [
    nbformat.v4.new_output('stream', name='stderr', text=text)
    for text in (f'{ROOT}/runs/x\n', '+----+\n| Name |\n', 'line\n' * 100)
  ]
  picture = nbformat.v4.new_output('display_data', data={'image/png': 'a', 'image/jpeg': 'b'})
  cells = [nbformat.v4.new_code_cell('', outputs=[*stream, picture])]
  notebook = nbformat.v4.new_notebook(cells=cells)
  tidy(notebook)
  text, shown = notebook.cells[0].outputs
  assert text.text.startswith('runs/x\nline\n')
  assert '[… 69 more lines …]' in text.text
  assert len(text.text.splitlines()) == 33
  assert shown.data == {'image/png': 'a'}
