"""The blocks that a page is made of: it is a list of sections, each a list of blocks.

`html.py` and `markdown.py` draw the same ones.
A block is text, a table or pictures. Sections are written in `sections/`, one topic a file; nothing in them knows in which
format they will be drawn, and no text stands in the renderers.
"""

import base64
import dataclasses
from collections.abc import Iterator, Sequence

DASH = '–'  # a value that is not known


@dataclasses.dataclass(frozen=True)
class Cell:
  """One value of a table: `text`, what stands small beneath it, and whether it is the best of its column."""

  text: str
  small: str = ''
  best: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """A table whose first column heads its rows.

  Attributes:
    id: anchor on the page.
    title: the caption.
    columns: headings, one for each cell of a row.
    rows: cells.
    notes: sentences beneath it.
    text_columns: how many columns from the left hold text rather than numbers.
  """

  id: str
  title: str
  columns: list[str]
  rows: list[list[Cell]]
  notes: list[str] = dataclasses.field(default_factory=list)
  text_columns: int = 1


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture.

  Attributes:
    file: its name under `figures/`.
    alt: what it says to somebody who cannot see it.
    caption: beneath it.
    data: its bytes (SVG or PNG) by theme; 'light' alone where one version serves both.
  """

  file: str
  alt: str
  caption: str
  data: dict[str, bytes]

  def uri(self, theme: str) -> str:
    """Returns the picture as a data URI, so that the page needs no other file."""
    kind = 'svg+xml' if self.file.endswith('.svg') else 'png'
    return f'data:image/{kind};base64,{base64.b64encode(self.data[theme]).decode()}'


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph; `callout` sets it apart. `verdict` is printed in bold before it."""

  text: str
  verdict: str = ''
  callout: bool = False


@dataclasses.dataclass(frozen=True)
class Heading:
  """A heading within a section; `level` 3 or 4."""

  text: str
  level: int = 3


@dataclasses.dataclass(frozen=True)
class Bullets:
  """A list of sentences."""

  items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Flags:
  """Words of a command line, and what they are for."""

  label: str
  words: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Terms:
  """Terms and what they mean: (term, small print beside it or '', explanation)."""

  rows: Sequence[tuple[str, str, str]]
  style: str = 'facts'  # 'facts' in two columns, or 'regimes'


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Large figures in a row: (value, what it is)."""

  tiles: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Answers:
  """Questions with a sentence each, side by side."""

  rows: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Pictures side by side; `style` is 'chart', 'wide' (one to a row) or 'sheet' (grids of images)."""

  pictures: Sequence[Picture]
  style: str = 'chart'


@dataclasses.dataclass(frozen=True)
class Strips:
  """A row a class: its name, then a picture of each column or what stands in its place."""

  columns: Sequence[str]
  rows: Sequence[tuple[str, Sequence[Picture | str]]]


@dataclasses.dataclass(frozen=True)
class Beside:
  """The first block beside all others, where there is room."""

  blocks: Sequence['Block']


@dataclasses.dataclass(frozen=True)
class Fold:
  """Blocks behind a title that opens them."""

  title: str
  blocks: Sequence['Block']


Block = Text | Heading | Bullets | Flags | Terms | Tiles | Answers | Table | Pictures | Strips | Beside | Fold


@dataclasses.dataclass(frozen=True)
class Section:
  """One topic of the page.

  Attributes:
    id: anchor.
    title: heading.
    blocks: its content, in order.
    nav: its name in the list of contents; '' leaves it out there.
  """

  id: str
  title: str
  blocks: Sequence[Block]
  nav: str = ''


@dataclasses.dataclass(frozen=True)
class Page:
  """The whole page.

  Attributes:
    title: the run's name.
    lede: what the page is about, under its title.
    sections: in order; the list of contents follows the first one.
    source: what stands at its foot: the paper.
  """

  title: str
  lede: str
  sections: Sequence[Section]
  source: str


def pictures(blocks: Sequence[Block]) -> Iterator[Picture]:
  """Yields all pictures of blocks, nested ones too, in order."""
  for block in blocks:
    if isinstance(block, Pictures):
      yield from block.pictures
    elif isinstance(block, Strips):
      yield from (cell for _, cells in block.rows for cell in cells if isinstance(cell, Picture))
    elif isinstance(block, Beside | Fold):
      yield from pictures(block.blocks)
