"""How commands print: tables and progress bars for people, JSON for programs."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from lakehouse.cli.escaping import escape_control_characters, escape_in_json


class PlainConsole(Console):
    """A console that shows text as it is: brackets are never markup, `:name:` is no emoji, control characters are escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text as Rich renders it. Rich calls this for each line, title, header and cell."""
        return super().render_str(escape_control_characters(text), **options)


console = PlainConsole()
stderr = PlainConsole(stderr=True)


def print_text(text: str, *, style: str | None = None, to: Console | None = None) -> None:
    """Print text as it is: on one line however long, without colours of Rich's own."""
    (to or console).print(text, style=style, highlight=False, soft_wrap=True)


def join_first(texts: Sequence[str], most: int = 10, width: int = 200) -> str:
    """Join texts for people: the first, without the middle of a very long one, such as a file's names of columns."""
    first = (text if len(text) <= width else f"{text[: width // 2]} … {text[-width // 2 :]}" for text in texts[:most])
    more = [f"and {len(texts) - most:,} more, which --json prints"] if len(texts) > most else []
    return "; ".join([*first, *more])


def counted(count: int, noun: str) -> str:
    """Write a count with its noun, such as `1 row` or `2,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(escape_in_json(json.dumps(value, ensure_ascii=False, default=str)) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()
) -> None:
    """Print a table for people; the columns named in `right` hold numbers."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars on standard error, when that is a terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        yield bars
