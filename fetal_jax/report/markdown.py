"""Draws sections in GitHub's Markdown."""

from collections.abc import Iterator, Sequence

from fetal_jax.report.page import (
  Answers,
  Beside,
  Block,
  Bullets,
  Cell,
  Flags,
  Fold,
  Heading,
  Page,
  Picture,
  Pictures,
  Strips,
  Table,
  Terms,
  Text,
  Tiles,
)
from fetal_jax.runtime.escape import markdown as escape


def render(page: Page) -> str:
  """Returns the page as Markdown; pictures are linked as `figures/<file>`."""
  parts = [f'# {escape(page.title)}', page.lede]
  for section in page.sections:
    parts += [f'## {escape(section.title)}', *_blocks(section.blocks)]
  parts += [page.source, 'Cards: [the synthetic set](cards/dataset.md), [the models](cards/model.md).']
  return '\n\n'.join(parts) + '\n'


def _blocks(blocks: Sequence[Block]) -> Iterator[str]:
  for block in blocks:
    yield from _block(block)


def _block(block: Block) -> Iterator[str]:
  match block:
    case Text(text, verdict):
      yield escape(f'{verdict} {text}' if verdict else text)
    case Heading(text, level):
      yield f'{"#" * level} {escape(text)}'
    case Bullets(items):
      yield '\n'.join(f'- {escape(item)}' for item in items)
    case Flags(label, words):
      yield f'{label}: `{" ".join(words)}`'
    case Terms():
      yield '\n'.join(_terms(block))
    case Tiles():
      return  # the sentences and tables say the same
    case Answers(rows):
      yield from (escape(sentence) for _, sentence in rows)
    case Table():
      yield f'**{escape(block.title)}**'
      yield table(block)
      yield from (escape(note) for note in block.notes)
    case Pictures(pictures):
      for picture in pictures:
        yield from _picture(picture)
    case Strips(_, rows):
      for _, cells in rows:
        for cell in cells:
          if isinstance(cell, Picture):
            yield from _picture(cell)
    case Beside(blocks):
      yield from _blocks(blocks)
    case Fold(_, blocks):
      yield from _blocks(blocks)


def _terms(terms: Terms) -> Iterator[str]:
  for term, small, meaning in terms.rows:
    if terms.style == 'facts':
      yield f'- {term}: {escape(meaning)}'
    else:
      yield f'- **{term}**{f" ({small})" if small else ""}: {meaning}'


def _picture(picture: Picture) -> Iterator[str]:
  yield f'![{escape(picture.alt)}](figures/{picture.file})'
  yield escape(picture.caption)


def table(shown: Table) -> str:
  """Returns the cells of a table, without its title and notes."""
  align = ['---' if i < shown.text_columns else '---:' for i in range(len(shown.columns))]
  rows = [[_cell(cell) for cell in row] for row in shown.rows]
  lines = [[escape(column) for column in shown.columns], align, *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(cell: Cell) -> str:
  main = f'**{escape(cell.text)}**' if cell.best else escape(cell.text)
  return f'{main} ({escape(cell.small)})' if cell.small else main
