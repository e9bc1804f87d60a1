"""Read the chart of a SQL text: a line of its header such as `-- chart: line x=dt y=revenue by=country`."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

KINDS: Mapping[str, tuple[str, ...]] = {
    "line": ("x", "y"),
    "area": ("x", "y"),
    "bar": ("x", "y"),
    "number": ("y",),
    "table": (),
}
"""The parts that a chart of each kind needs."""

OPTIONAL: Mapping[str, tuple[str, ...]] = {"line": ("by",), "area": ("by",), "bar": ("by",)}
"""The parts that a chart of a kind may have besides."""

_BEFORE_SQL = re.compile(r"\s+|(?P<line>--[^\n]*)|/\*.*?\*/", re.DOTALL)
_CHART = re.compile(r"--\s*chart\s*:(?P<text>.*)", re.IGNORECASE)
_PART = re.compile(r'(?P<name>\w+)=(?P<columns>(?:"(?:[^"]|"")+"|[^\s",]+)(?:,(?:"(?:[^"]|"")+"|[^\s",]+))*)(?=\s|$)')
_COLUMN = re.compile(r'"((?:[^"]|"")+)"|([^\s",]+)')


class ChartError(ValueError):
    """A chart is wrong."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Chart:
    """How the rows of a SELECT are drawn."""

    kind: str
    x: str | None = None
    """The column of the horizontal axis."""
    y: tuple[str, ...] = ()
    """The columns of the values: a series each."""
    by: str | None = None
    """The column whose values make a series each."""
    line: int = 1
    """The line of the text that declares it."""

    @property
    def columns(self) -> list[str]:
        """The columns that it draws; a table draws all."""
        return [name for name in (self.x, self.by, *self.y) if name is not None]

    def check_columns(self, known: Collection[str]) -> None:
        """Raise ChartError if a column is none of those of the SELECT."""
        for name in self.columns:
            if name not in known:
                raise ChartError(f"chart: there is no column {name}; there are {', '.join(known)}", self.line)


def read_chart(text: str) -> Chart | None:
    """Read the chart among the comments before the SQL of a text. Raises ChartError with the line, and what there is."""
    charts, at = list[Chart](), 0
    while match := _BEFORE_SQL.match(text, at):
        at = match.end()
        if match["line"] and (chart := _CHART.match(match["line"])):
            charts.append(_parse(chart["text"], text.count("\n", 0, match.start()) + 1))
    if len(charts) > 1:
        raise ChartError("chart: there is one already; a SELECT has one chart", charts[1].line)
    return charts[0] if charts else None


def _parse(text: str, line: int) -> Chart:
    kind, _, rest = text.strip().partition(" ")
    if kind not in KINDS:
        raise ChartError(f"chart: {kind or 'nothing'} is no kind of chart; there are {', '.join(KINDS)}", line)
    parts = _parts(kind, rest, line)
    if missing := [name for name in KINDS[kind] if name not in parts]:
        raise ChartError(f"chart: a {kind} needs {' and '.join(f'{name}=column' for name in missing)}", line)
    single = {name: columns[0] for name, columns in parts.items() if name != "y"}
    chart = Chart(kind, single.get("x"), parts.get("y", ()), single.get("by"), line)
    if len(chart.y) > 1 and (chart.by is not None or kind == "number"):
        raise ChartError(f"chart: {'by needs' if chart.by else 'a number has'} one column as y", line)
    return chart


def _parts(kind: str, text: str, line: int) -> dict[str, tuple[str, ...]]:
    """Read the parts of a chart, each a name and its columns."""
    allowed = (*KINDS[kind], *OPTIONAL.get(kind, ()))
    parts = dict[str, tuple[str, ...]]()
    for match in _PART.finditer(text):
        columns = tuple(quoted.replace('""', '"') or plain for quoted, plain in _COLUMN.findall(match["columns"]))
        if match["name"] not in allowed:
            has = ", ".join(allowed) or "no parts"
            raise ChartError(f"chart: {match['name']} is no part of a {kind}; it has {has}", line)
        if match["name"] in parts or (match["name"] != "y" and len(columns) > 1):
            raise ChartError(f"chart: {match['name']} is given twice", line)
        parts[match["name"]] = columns
    if rest := _PART.sub("", text).strip():
        raise ChartError(f"chart: {rest!r} is not written as name=column", line)
    return parts
