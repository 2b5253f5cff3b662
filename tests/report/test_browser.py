"""The page in a browser: nothing wider than the screen, nothing on the console. Skipped where there is no Chromium."""

import json
import re
import shutil
import subprocess

import ml_collections
import pytest
from helpers import fake_workdir

from fetal_jax.report import stage

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='no chromium on this machine')

# A frame is as narrow as it is asked to be; a window is not.
_FRAME = """<!doctype html><title>frame</title>
<iframe id="frame" src="report/index.html" width="{width}" height="900"></iframe>
<pre id="found"></pre>
<script>
  frame.onload = () => {{
    const page = frame.contentDocument, root = page.documentElement
    page.querySelectorAll('details').forEach(d => {{ d.open = {opened} }})
    // What scrolls in its own box may be wider than the screen.
    const wide = [...page.body.querySelectorAll('*')].filter(
      e => !e.closest('.scroll, nav ul') && e.getBoundingClientRect().right > root.clientWidth + 0.5)
    const broken = [...page.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)
    found.textContent = JSON.stringify({{
      width: root.clientWidth, scroll: root.scrollWidth, wide: wide.map(e => e.outerHTML.slice(0, 80)), broken,
      images: page.images.length }})
  }}
</script>
"""


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  workdir = fake_workdir.make(
    tmp_path_factory.mktemp('browser'), models=('resnet50',), num_seeds=2, evaluated=True, swept=True, curve=(12, 24, 72),
    kept=('synth_r12_kept', 'synth_r12_kept_then_real'),
  )  # fmt: skip
  settings = {'report': {'show_real_images': True}, 'classify': {'protocol': 'honest'}}
  stage.run(ml_collections.ConfigDict(settings), workdir)
  return workdir


def _open(path, profile, *flags):
  done = subprocess.run(
    [
      CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--enable-logging=stderr',
      '--allow-file-access-from-files', f'--user-data-dir={profile}', *flags, path.as_uri(),
    ],
    capture_output=True, text=True, timeout=120, check=True,
  )  # fmt: skip
  return done.stdout, [line for line in done.stderr.splitlines() if 'CONSOLE' in line]


@pytest.mark.parametrize('opened', ['true', pytest.param('false', marks=pytest.mark.slow)])
@pytest.mark.parametrize('width', [390, 1440])
def test_nothing_overflows_and_nothing_is_logged(workdir, tmp_path, width, opened):
  frame = workdir / f'frame_{width}_{opened}.html'
  frame.write_text(_FRAME.format(width=width, opened=opened))
  dom, console = _open(
    frame, tmp_path, '--dump-dom', '--virtual-time-budget=10000', '--window-size=1600,1000'
  )
  assert console == []
  found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)[1])
  assert found['width'] >= width - 20  # but for a scroll bar
  assert found['images'] > 20
  assert found['broken'] == []
  assert found['wide'] == []
  assert found['scroll'] <= found['width']


@pytest.mark.slow
def test_the_page_prints(workdir, tmp_path):
  pdf = tmp_path / 'page.pdf'
  _, console = _open(workdir / 'report' / 'index.html', tmp_path, f'--print-to-pdf={pdf}')
  assert console == []
  assert pdf.read_bytes().startswith(b'%PDF')


@pytest.mark.slow
def test_the_frame_would_notice(workdir, tmp_path):
  """The test's own test: something too wide and something on the console are both found."""
  (tmp_path / 'report').mkdir()
  text = (workdir / 'report' / 'index.html').read_text()
  text = text.replace(
    '</main>', '<div style="width: 3000px">wide</div><script>console.error("x")</script></main>'
  )
  (tmp_path / 'report' / 'index.html').write_text(text)
  frame = tmp_path / 'frame.html'
  frame.write_text(_FRAME.format(width=390, opened='true'))
  dom, console = _open(frame, tmp_path / 'profile', '--dump-dom', '--virtual-time-budget=10000')
  assert len(console) == 1
  found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)[1])
  assert len(found['wide']) == 1
  assert found['scroll'] > 2900
