"""alice's search text is not in the file: she reads where it nearly is, and what differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.change.nearest import lines_with, listed, near

FILE = "import math\n\ndef f(x):\n\treturn 1\n\ndef g(x):\n    y = x + 2  \n    return 10\n    z = 'a\xa0b'\n"


@pytest.mark.parametrize(
    ("search", "line", "offset", "sentence"),
    [
        ("    return 1", 4, 0, "a tab where the text sought has 4 blanks; it reads '\\treturn 1'"),
        ("return 1 ", 4, 0, "an end of line where the text sought has a blank"),
        ("\treturn 1\t\n", 4, 0, "nothing where the text sought has a tab"),
        ("return  10", 8, 0, "a blank where the text sought has 2 blanks"),
        ("def g(x):\n  y = x", 7, 1, "4 blanks where the text sought has 2 blanks"),
        ("y = x + 2\n", 7, 0, "2 blanks where the text sought has nothing"),
        ("z = 'a b'", 9, 0, "a no-break space where the text sought has a blank"),
        ("def g(x):\r\n    y", 6, 0, "nothing where the text sought has a carriage return"),
        ("return 1\n\n\ndef", 6, 2, "nothing where the text sought has an end of line"),
        ("    return 1\n\n\ndef", 4, 0, "a tab where the text sought has 4 blanks"),
        ("y=x+2", 7, 0, "a blank where the text sought has nothing"),
        ("retrun 10", 8, 0, "nearest to 'retrun 10' is line 8, '    return 10'"),
        ("def h(x):\n    y = x + 2", 6, 0, "line 6 reads 'def g(x):' where the text sought has 'def h(x):'"),
        ("    z = 'a\xa0b'\nmore", 10, 1, "line 10 reads '' where the text sought has 'more'"),
        ("def g(x):\\n    y = x + 2", 6, 0, "as escapes, two characters each"),
        ("     6\tdef g(x):\n     7\t    y = x + 2", 6, 0, "begins each line with its number"),
        ("z = \u2018a\xa0b\u2019", 9, 0, "a word processor's quotes"),
    ],
)
def test_the_difference_is_named_and_where(search: str, line: int, offset: int, sentence: str) -> None:
    found = near(FILE, search)
    assert found is not None
    assert (found.line, found.offset) == (line, offset)
    assert sentence in found.sentence


@pytest.mark.parametrize("search", ["nothing is like this at all", "\n\n\n\n", "  ", ""])
def test_where_nothing_is_like_it_nothing_is_said(search: str) -> None:
    assert near(FILE, search) is None


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("a &lt; b", "as the source of a page writes <"),
        ("cafe\u0301", "accents apart"),
        ("\u00fcber", "accents as one"),
    ],
)
def test_what_only_looks_the_same_is_told(search: str, said: str) -> None:
    found = near("x\na < b\ncaf\u00e9\nu\u0308ber\n", search)
    assert found is not None and said in found.sentence


def test_a_long_file_is_searched_as_well() -> None:
    found = near("".join(f"value_{n} = compute({n})\n" for n in range(10_000)), "value_7007 = comptue(7007)")
    assert found is not None and found.sentence.startswith("nearest to 'value_7007 = comptue(7007)' is line 7,008,")


def test_places_are_lines_and_overlapping_ones_count() -> None:
    assert lines_with("aaa\naa", "aa") == [1, 1, 2]
    assert listed([3]) == "3" and listed([3, 9, 12]) == "3, 9 and 12"
    assert listed(range(1, 10)) == "1, 2, 3, 4, 5 and 4 more"


@given(st.text("ab \t\n\r\xa0", max_size=30), st.text("ab \t\n\r\xa0", max_size=8))
def test_any_text_has_an_answer_within_the_file(text: str, search: str) -> None:
    if search in text:
        return
    found = near(text, search)
    assert found is None or 1 <= found.line <= text.count("\n") + 1
    assert found is None or 0 <= found.offset <= search.count("\n")
