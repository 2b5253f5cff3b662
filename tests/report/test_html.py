"""Every block as HTML."""

import base64
import re

import pytest
from helpers import fake_page

from fetal_jax.report import html
from fetal_jax.report.page import Page, Section


def _drawn(block):
  """Returns the HTML of one block, without white space between its tags."""
  page = Page('Title', 'Lede.', [Section('x', 'X', [fake_page.BLOCKS[block]])], 'Source.')
  text = html.render(page)
  body = text[text.index('</h2>') + len('</h2>') : text.index('</section>')]
  return re.sub(r'>\s+<', '><', body).strip()


@pytest.mark.parametrize(
  ('block', 'text'),
  [
    ('text', '<p>Nine of 10\xa0% are &lt;b&gt;.</p>'),
    ('callout', '<p class="callout"><strong>Beware.</strong> Of all.</p>'),
    ('heading', '<h3>A heading</h3>'),
    ('bullets', '<ul><li>One.</li><li>Two.</li></ul>'),
    ('flags', '<p>Recommended: <code>--a=1</code> <code>--b=2</code></p>'),
    ('facts', '<dl class="facts"><dt>Split</dt><dd>paper</dd></dl>'),
    (
      'regimes',
      '<dl class="regimes"><div><dt>Real <small>paper: real images</small></dt><dd>No other.</dd></div></dl>',
    ),
    ('tiles', '<ul class="tiles"><li><strong>93 %</strong> best accuracy</li></ul>'),
    (
      'answers',
      '<div class="answers"><div><h3>Did it help?</h3><p><strong>It did:</strong> by 5\xa0%.</p></div>'
      '<div><h3>Was it copied?</h3><p>No.</p></div></div>',
    ),
    ('fold', '<details><summary>More</summary><p>Within.</p></details>'),
  ],
)
def test_a_block(block, text):
  assert _drawn(block).replace('> <', '><') == text.replace('> <', '><')


def test_a_table_has_scopes_and_small_print():
  text = _drawn('table')
  assert '<figure class="table" id="a-table"><figcaption>A table</figcaption>' in text
  assert '<th scope="col" class="text">Class</th><th scope="col">n</th>' in text
  assert '<th scope="row">a|[b]&lt;i&gt;</th><td class=" best">1 <small>of 2</small></td>' in text
  assert '<p class="note">A note.</p>' in text


def test_a_picture_is_within_the_page_in_both_themes():
  text = _drawn('pictures')
  light, dark = (base64.b64encode(theme).decode() for theme in (b'light', b'dark'))
  assert (
    f'<source srcset="data:image/svg+xml;base64,{dark}" media="screen and (prefers-color-scheme: dark)">'
    in text
  )
  assert f'<img src="data:image/svg+xml;base64,{light}" alt="alt of chart.svg">' in text
  assert '<figcaption>caption of chart.svg</figcaption>' in text


def test_a_strip_that_is_not_there_has_words_in_its_place():
  text = _drawn('strips')
  assert '<h3>brain</h3>' in text
  assert '<small>real</small><img src="data:image/png;base64,' in text
  assert '<p class="placeholder">None yet</p>' in text


def test_the_first_block_stands_beside_the_others():
  text = _drawn('beside')
  assert text.startswith('<div class="beside"><div><div class="charts wide">')
  assert text.endswith('<div><p>First.</p><p>Second.</p></div></div>')


def test_contents_follow_the_first_section():
  text = html.render(fake_page.PAGE)
  assert '<h1>a &lt;run&gt;</h1>' in text
  assert text.index('id="summary"') < text.index('<nav') < text.index('id="everything"')
  assert re.findall(r'<a href="([^"]+)">([^<]+)</a>', text) == [('#everything', 'All')]
  assert '<p>The paper: somebody.</p>' in text
