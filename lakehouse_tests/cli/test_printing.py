"""Values are printed as they are: brackets are not markup, and control characters are escaped."""

import io
import json
from unicodedata import category

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.cli import printing
from lakehouse.cli.escaping import escape_control_characters, escape_in_json
from lakehouse.cli.printing import PlainConsole, join_first, print_table, print_text
from lakehouse_tests.cli.conftest import Command

HOSTILE = [
    "a[0] = b[i], [TODO] fix, [red]",
    "[/]",
    "[/x]",
    ":smile:",
    "\x1b]0;pwn\x07\x1b[2J",
    "\x9b2J",
    "\u202etxt.exe",
    "\\[b]",
]

a_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\t")) | st.sampled_from(HOSTILE)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return the text that is printed on a terminal wide enough for every value."""
    file = io.StringIO()
    monkeypatch.setattr(printing, "console", PlainConsole(file=file, width=10_000))
    return file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=a_line)
def test_text_and_cells_are_printed_as_they_are(printed: io.StringIO, text: str) -> None:
    escaped = escape_control_characters(text)
    printed.seek(0)
    printed.truncate()
    print_text(text)
    print_table("", [f"<{text}>"], [[f"<{text}>"]])
    printing.console.print(f"<{text}>", soft_wrap=True)
    assert printed.getvalue().count(escaped) >= 4
    assert not [char for char in printed.getvalue() if category(char) == "Cc" and char != "\n"]


@given(text=a_line)
def test_escaped_json_has_the_same_value(text: str) -> None:
    document = escape_in_json(json.dumps([text], ensure_ascii=False))
    assert json.loads(document) == [text]
    assert not [char for char in document if category(char) == "Cc"]


@pytest.mark.parametrize("text", HOSTILE)
def test_query_prints_hostile_values_harmlessly(lakehouse: Command, text: str) -> None:
    sql = "select '" + "||".join(f"chr({ord(char)})" for char in text).join(["'||", "||'"]) + "' as a"
    table = lakehouse("query", sql)
    assert (table.returncode, table.stderr) == (0, "")
    assert escape_control_characters(text) in table.stdout
    document = lakehouse("query", sql, "--format", "json").stdout
    assert json.loads(document) == [{"a": text}]
    assert not [char for char in document if category(char) == "Cc" and char != "\n"]


def test_error_escapes_control_characters(lakehouse: Command) -> None:
    done = lakehouse("load", "iot", "/nowhere/\x1b[2J.csv")
    assert done.returncode == 1
    assert "\\x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        (["a", "b"], "a; b"),
        (list("abcdefghijkl"), "a; b; c; d; e; f; g; h; i; j; and 2 more, which --json prints"),
        (["column " + "x" * 999 + " is unknown"], f"column {'x' * 93} … {'x' * 89} is unknown"),
    ],
)
def test_many_and_long_texts_are_shortened(texts: list[str], joined: str) -> None:
    assert join_first(texts) == joined
