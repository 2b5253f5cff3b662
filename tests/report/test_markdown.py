"""Every block as Markdown."""

import pytest
from helpers import fake_page

from fetal_jax.report import markdown
from fetal_jax.report.page import Page, Section


@pytest.mark.parametrize(
  ('block', 'text'),
  [
    ('text', 'Nine of 10 % are &lt;b>.'),
    ('callout', 'Beware. Of all.'),
    ('heading', '### A heading'),
    ('bullets', '- One.\n- Two.'),
    ('flags', 'Recommended: `--a=1 --b=2`'),
    ('facts', '- Split: paper'),
    ('regimes', '- **Real** (paper: real images): No other.'),
    ('tiles', ''),
    ('answers', 'It did: by 5 %.\n\nNo.'),
    (
      'table',
      '**A table**\n\n| Class | n |\n| --- | ---: |\n| a\\|\\[b\\]&lt;i> | **1** (of 2) |\n\nA note.',
    ),
    ('pictures', '![alt of chart.svg](figures/chart.svg)\n\ncaption of chart.svg'),
    ('strips', '![alt of strip.png](figures/strip.png)\n\ncaption of strip.png'),
    ('beside', '![alt of wide.svg](figures/wide.svg)\n\ncaption of wide.svg\n\nFirst.\n\nSecond.'),
    ('fold', 'Within.'),
  ],
)
def test_a_block(block, text):
  page = Page('Title', 'Lede.', [Section('x', 'X', [fake_page.BLOCKS[block]])], 'Source.')
  start, _, rest = markdown.render(page).partition('## X\n\n')
  assert start == '# Title\n\nLede.\n\n'
  body, _, foot = rest.partition('Source.\n\n')
  assert body.rstrip('\n') == text
  assert foot == 'Cards: [the synthetic set](cards/dataset.md), [the models](cards/model.md).\n'


def test_a_page_has_its_sections_in_order():
  text = markdown.render(fake_page.PAGE)
  assert text.startswith('# a &lt;run>\n\nWhat it is about.\n\n## In short\n\n')
  assert text.index('## In short') < text.index('## All blocks')
  assert '\n\n\n' not in text


def test_a_table_cannot_be_broken_by_a_name():
  assert markdown.table(fake_page.TABLE).splitlines()[-1] == r'| a\|\[b\]&lt;i> | **1** (of 2) |'
  assert markdown.escape('a\nb`c`*') == r'a b\`c\`\*'
