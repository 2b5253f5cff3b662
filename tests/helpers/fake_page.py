"""A page of every kind of block, for tests of the renderers."""

from fetal_jax.report.page import (
  Answers,
  Beside,
  Bullets,
  Cell,
  Flags,
  Fold,
  Heading,
  Page,
  Picture,
  Pictures,
  Section,
  Strips,
  Table,
  Terms,
  Text,
  Tiles,
)


def picture(name):
  return Picture(name, f'alt of {name}', f'caption of {name}', {'light': b'light', 'dark': b'dark'})


TABLE = Table(
  'a-table', 'A table', ['Class', 'n'], [[Cell('a|[b]<i>'), Cell('1', small='of 2', best=True)]], ['A note.']
)
BLOCKS = {
  'text': Text('Nine of 10 % are <b>.'),
  'callout': Text('Of all.', verdict='Beware.', callout=True),
  'heading': Heading('A heading'),
  'bullets': Bullets(['One.', 'Two.']),
  'flags': Flags('Recommended', ['--a=1', '--b=2']),
  'facts': Terms([('Split', '', 'paper')]),
  'regimes': Terms([('Real', 'paper: real images', 'No other.')], style='regimes'),
  'tiles': Tiles([('93 %', 'best accuracy')]),
  'answers': Answers([('Did it help?', 'It did: by 5 %.'), ('Was it copied?', 'No.')]),
  'table': TABLE,
  'pictures': Pictures([picture('chart.svg')]),
  'strips': Strips(['Real, training side', 'Synthetic'], [('brain', [picture('strip.png'), 'None yet'])]),
  'beside': Beside([Pictures([picture('wide.svg')], style='wide'), Text('First.'), Text('Second.')]),
  'fold': Fold('More', [Text('Within.')]),
}
PAGE = Page(
  title='a <run>',
  lede='What it is about.',
  sections=[
    Section('summary', 'In short', [BLOCKS['answers'], BLOCKS['tiles']]),
    Section('everything', 'All blocks', list(BLOCKS.values())[:7] + list(BLOCKS.values())[9:], nav='All'),
  ],
  source='The paper: somebody.',
)
