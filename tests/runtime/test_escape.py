"""Names of users in Markdown and in spreadsheets."""

import pytest

from fetal_jax.runtime import escape


@pytest.mark.parametrize(
  ('text', 'shown'),
  [
    ('brain', 'brain'),
    ('vit_b_32', 'vit_b_32'),
    ('_brain_ __x__', '\\_brain\\_ \\_\\_x\\_\\_'),
    ('a|b', 'a\\|b'),
    ('*b* `c` [d](e)', '\\*b\\* \\`c\\` \\[d\\](e)'),
    ('<script>', '&lt;script>'),
    ('&lt; & R&D; &#60;', '&amp;lt; & R&amp;D; &amp;#60;'),
    ('$\\frac$ ~~x~~', '\\$\\\\frac\\$ \\~\\~x\\~\\~'),
    ('a\nb\tc\x1b\u202e', 'a b c  '),
    ('ü 脳 🧠 דם', 'ü 脳 🧠 דם'),
  ],
)
def test_markdown_shows_names_as_they_are(text, shown):
  assert escape.markdown(text) == shown


@pytest.mark.parametrize('text', ['=1+1', '+1', '-x', '@SUM(A1)', '\t=1', ' =1', '＝1', '-', '\r=1'])
def test_formulas(text):
  assert escape.is_formula(text)


@pytest.mark.parametrize('text', ['', ' ', 'a=1', '1+1', 'brain', "'=1", '(=1)'])
def test_no_formulas(text):
  assert not escape.is_formula(text)
