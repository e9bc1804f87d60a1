"""Read dashboards: Markdown files with SQL blocks, each of which is drawn as its `-- chart:` line says, else as a table.

Raw HTML in the Markdown is shown as text. The SQL runs with the rights of each reader.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lakehouse.models.chart import Chart, ChartError, read_chart
from lakehouse.processes.file_stamps import Stamps, file_stamps

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

TABLE = Chart("table")
"""How the rows of a block without a chart are shown."""

# Images would be loaded from other hosts, which the page forbids.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a dashboard: text as HTML, or SQL with its chart, or what is wrong with the chart."""

    html: str = ""
    sql: str = ""
    chart: Chart | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard as its file describes it."""

    name: str
    title: str
    """Its first heading; its name without one."""
    description: str
    """The text of its first paragraph."""
    blocks: tuple[Block, ...]
    path: Path
    version: str
    """Another text for another content."""


def dashboard_stamps(folders: Iterable[Path]) -> Stamps:
    """Stamp the files of dashboards."""
    return file_stamps(folders, depth=0, suffixes=(".md",))


def read_dashboards(folders: Iterable[Path]) -> tuple[dict[str, Dashboard], list[str]]:
    """Read the dashboards of these folders by name, and say what is wrong. A wrong block is shown as such in its place."""
    dashboards, problems = dict[str, Dashboard](), list[str]()
    for folder in folders:
        if not folder.is_dir():
            problems.append(f"{folder}: is not a folder. LAKEHOUSE_DASHBOARDS lists folders of .md files.")
        for path in sorted(folder.glob("*.md")):
            if path.name == "README.md":
                continue
            if not NAME.fullmatch(path.stem):
                problems.append(
                    f"{path}: {path.stem!r} can't be a dashboard's name: use small letters, digits, _ and -."
                )
                continue
            try:
                dashboard = read_dashboard(path)
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{path}: can't be read ({error}).")
                continue
            dashboards[dashboard.name] = dashboard
            problems += [f"{path}: {block.error}." for block in dashboard.blocks if block.error]
    return dict(sorted(dashboards.items())), problems


def read_dashboard(path: Path) -> Dashboard:
    """Read one dashboard. Raises OSError or UnicodeDecodeError if the file can't be read."""
    text = path.read_text(encoding="utf-8")
    tokens = _MARKDOWN.parse(text)
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    title, description = _first_text(tokens, "heading_open"), _first_text(tokens, "paragraph_open")
    return Dashboard(path.stem, title or path.stem, description, tuple(_blocks(tokens)), path, version)


def _first_text(tokens: Sequence[Token], opening: str) -> str:
    for position, token in enumerate(tokens):
        if token.type == opening:
            parts = tokens[position + 1].children or ()
            return "".join(" " if part.type.endswith("break") else part.content for part in parts).strip()
    return ""


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    waiting = list[Token]()
    for token in tokens:
        if token.type != "fence" or token.level or token.info.split()[:1] != ["sql"]:
            waiting.append(token)
            continue
        if waiting:
            yield _text(waiting)
            waiting = []
        yield _sql_block(token)
    if waiting:
        yield _text(waiting)


def _text(tokens: Sequence[Token]) -> Block:
    return Block(html=_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


def _sql_block(token: Token) -> Block:
    try:
        return Block(sql=token.content, chart=read_chart(token.content) or TABLE)
    except ChartError as error:
        line = (token.map[0] if token.map else 0) + 1 + error.line
        return Block(sql=token.content, error=f"line {line}: {error}")


def sql_of(dashboard: Dashboard) -> str:
    """Return all SQL of a dashboard."""
    return "\n".join(block.sql for block in dashboard.blocks)


Dashboards = Mapping[str, Dashboard]
