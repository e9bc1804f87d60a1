"""Read declared look-ups: files `{name}.sql` of a key and a SELECT over any tables. See `checking` for those tables.

The header is a comment of `key` and `description`. A second SELECT, over `lookup`, shapes the answers.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakehouse.contracts.definition import canonical_number
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.streams import revision
from lakehouse.errors import LookupFileError, QueryError
from lakehouse.models.sql_tables import SqlError, SqlTable, tables_read
from lakehouse.pipeline.view_names import stream_view_names
from lakehouse.serving.query.named_queries import NAME_PATTERN
from lakehouse.serving.query.sandbox import check_query

SHIPPED = Path(__file__).with_name("shipped")
"""The folder of the package's look-ups. Each is there where the streams are whose tables it reads."""

ROWS = "lookup"
"""The name by which the second SELECT of a file reads the rows of the first."""

_BLOCK = re.compile(r"\s*/\*(?P<yaml>.*?)\*/", re.DOTALL)
_LINES = re.compile(r"\s*(?P<lines>(?:--[^\n]*(?:\n|$))+)")
_LINE = re.compile(r"--\s*(?P<name>[a-z_]+):\s*(?P<text>.*?)\s*$")
_BEFORE_SELECT = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
_DUCKDB_LINE = re.compile(r"\bLINE (\d+):.*", re.DOTALL)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(min_length=1)
    key: str = Field(min_length=1)


@dataclass(frozen=True)
class Lookup:
    """A look-up as its file declares it."""

    name: str
    description: str
    key: str
    """The column of the SELECT that identifies an entity."""
    sql: str = field(repr=False)
    """The SELECT of the rows, on the lines that it has in the file."""
    document: str | None = field(repr=False)
    """The SELECT of the answers from ROWS, on its lines, if there is one."""
    tables: tuple[SqlTable, ...] = field(repr=False)
    """The tables that the SELECT reads, in the order of its text."""
    path: Path
    key_line: int = 1
    """The line of the file that names the key."""
    streams: tuple[str, ...] = ()
    """The streams whose tables it reads, in the order of its text."""
    shared_tables: tuple[str, ...] = ()
    """The other tables that it reads, which belong to no single stream."""

    @property
    def is_shipped(self) -> bool:
        """Whether the look-up is one of the package's own."""
        return self.path.parent == SHIPPED

    @property
    def shows_id(self) -> bool:
        """Whether answers have a field `id`: the second SELECT gives it, or it is the key's own name."""
        return self.document is not None or self.key.lower() == "id"

    @property
    def asset_name(self) -> str:
        """The name of its asset, whose layer is serving."""
        return f"{self.name}_lookup"

    @property
    def definition(self) -> str:
        """The number of what its rows and answers are computed by."""
        return str(canonical_number(f"{self.key};{self.sql};{self.document or ''}"))


@dataclass(frozen=True)
class DeclaredLookups:
    """The look-ups of some folders, and what is wrong with the others."""

    by_name: Mapping[str, Lookup] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def reading(self, stream: str, tables: Iterable[str] = ()) -> list[Lookup]:
        """List the look-ups that read a table of the stream, or one of these tables."""
        names = {*tables}
        lookups = self.by_name.values()
        return [each for each in lookups if stream in each.streams or not names.isdisjoint(each.shared_tables)]


def discover_lookups(folders: Iterable[Path], streams: Iterable[str], models: Collection[str] = ()) -> DeclaredLookups:
    """Read the look-ups of these folders, and the package's over these streams. One that is wrong is a problem, left out.

    `models` are the tables of models, whose assets must have other names.
    """
    names = [*streams]
    lookups, problems = dict[str, Lookup](), list[str]()
    of_streams = {name for stream in names for name in stream_view_names(stream)}
    for path in sorted(SHIPPED.glob("*.sql")):
        lookup = read_lookup(path)
        if {table.name for table in lookup.tables} <= of_streams and lookup.name not in names:
            lookups[lookup.name] = _with_streams(lookup, names)
    for folder in revision(folders):
        if not folder.is_dir():
            problems.append(f"{folder}: is not a folder. LAKEHOUSE_LOOKUPS lists folders of .sql files.")
        for path in sorted(folder.glob("*.sql")):
            try:
                lookup = read_lookup(path)
                check_name(lookup, names, lookups, models)
                lookups[lookup.name] = _with_streams(lookup, names)
            except LookupFileError as error:
                problems.append(str(error))
    return DeclaredLookups(lookups, tuple(problems))


def check_name(
    lookup: Lookup, streams: Iterable[str], others: Mapping[str, Lookup], models: Collection[str] = ()
) -> None:
    """Raise LookupFileError if a stream or another look-up has the look-up's name, or a model that of its asset."""
    if f"serving.{lookup.asset_name}" in models:
        raise lookup_error(lookup.path, 1, f"there is a model serving.{lookup.asset_name}; rename one")
    if lookup.name in streams:
        raise lookup_error(lookup.path, 1, f"there is a stream {lookup.name}, which has a look-up of that name")
    if (other := others.get(lookup.name)) is not None:
        where = "the package" if other.is_shipped else other.path
        raise lookup_error(lookup.path, 1, f"there is a look-up {lookup.name} already, in {where}; rename one")


def _with_streams(lookup: Lookup, streams: Iterable[str]) -> Lookup:
    owners = {table: stream for stream in streams for table in stream_view_names(stream)}
    read = [table.name for table in lookup.tables]
    return replace(
        lookup,
        streams=tuple(dict.fromkeys(owners[table] for table in read if table in owners)),
        shared_tables=tuple(table for table in read if table not in owners),
    )


def read_lookup(path: Path) -> Lookup:
    """Read the look-up of one file. Raises LookupFileError with the file, the line and the rule."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LookupFileError(f"{path}: can't be read ({error}).") from error
    if not re.fullmatch(NAME_PATTERN, path.stem):
        raise lookup_error(
            path, 1, f"{path.stem!r} can't be a look-up's name: use small letters, digits and underscores"
        )
    header = _read_header(path, text)
    sql, document = _split(path, text)
    with open_in_memory() as database:
        tables = _tables(database, path, sql)
        if document is not None:
            _check_document(database, path, document)
    return Lookup(path.stem, header.description, header.key, sql, document, tables, path, _line_of_field(text, "key"))


def _read_header(path: Path, text: str) -> _Header:
    """Read the header: lines `-- name: text`, or YAML in one comment, as named queries have it."""
    values: Any = {}
    if block := _BLOCK.match(text):
        try:
            values = yaml.safe_load(block["yaml"])
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = text[: block.start("yaml")].count("\n") + 1 + (mark.line if mark else 0)
            raise lookup_error(path, line, f"the header is not YAML: {getattr(error, 'problem', error)}") from None
    elif lines := _LINES.match(text):
        fields = (_LINE.match(line) for line in lines["lines"].splitlines())
        values = {field["name"]: field["text"] for field in fields if field}
    try:
        return _Header.model_validate(values or {})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "header"
        if first["type"] == "missing":
            message = f"must start with a comment that has {name}, such as: -- {name}: …"
        else:
            message = f"{name}: {first['msg']}; the header has key and description"
        raise lookup_error(path, _line_of_field(text, name), message) from None


def _line_of_field(text: str, name: str) -> int:
    match = re.search(rf"^[\s/*-]*{re.escape(name)}\s*:", text, re.MULTILINE)
    return text[: match.end()].count("\n") + 1 if match else 1


def _split(path: Path, text: str) -> tuple[str, str | None]:
    """Split a file into its SELECTs, each on its lines: that of the rows, and that of the answers if there is one."""
    text = f"{text}\n; select 0"  # so that none of the others ends with a semicolon
    try:
        *statements, _ = duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise sql_error(path, error) from error
    if [statement.type for statement in statements] not in ([duckdb.StatementType.SELECT] * n for n in (1, 2)):
        raise lookup_error(
            path, 1, f"must hold one SELECT, and at most a second one over {ROWS} that shapes the answers"
        )
    parts, end = list[str](), 0
    for statement in statements:
        start = text.index(statement.query, end)
        end = start + len(statement.query)
        parts.append("\n" * text[:start].count("\n") + statement.query.rstrip())
    return parts[0], parts[1] if len(parts) > 1 else None


def _tables(database: duckdb.DuckDBPyConnection, path: Path, sql: str) -> tuple[SqlTable, ...]:
    """Find the tables that a SELECT reads, in their order, and check that it reads nothing else."""
    tables = sorted(_tables_read(database, path, sql), key=lambda table: table.line)
    for table in tables:
        if "." not in table.name:
            message = f"there is no table {table.name}; write a table with its layer, such as silver.{table.name}"
            raise lookup_error(path, table.line, message)
    if not tables:
        raise lookup_error(path, _first_line(sql), "the SELECT must read a table, such as silver.name")
    try:
        check_query(database, sql, {table.name for table in tables})
    except QueryError as error:
        raise lookup_error(path, _first_line(sql), str(error)) from error
    return tuple(tables)


def _check_document(database: duckdb.DuckDBPyConnection, path: Path, document: str) -> None:
    """Check that the SELECT of the answers reads nothing but the rows."""
    for table in _tables_read(database, path, document):
        if table.name.lower() != ROWS:
            message = f"the second SELECT reads {table.name}; it shapes the answers, from {ROWS} alone"
            raise lookup_error(path, table.line, message)


def _tables_read(database: duckdb.DuckDBPyConnection, path: Path, sql: str) -> list[SqlTable]:
    try:
        return tables_read(database, sql)
    except SqlError as error:
        raise lookup_error(path, error.line, str(error)) from error


def _first_line(sql: str) -> int:
    before = _BEFORE_SELECT.match(sql)
    return sql[: before.end() if before else 0].count("\n") + 1


def lookup_error(path: Path, line: int, message: str) -> LookupFileError:
    """Make the error of a line of a look-up's file."""
    return LookupFileError(f"{path}: line {line}: {message.rstrip('.')}.")


def sql_error(path: Path, error: duckdb.Error) -> LookupFileError:
    """Make the error of a look-up's file from DuckDB's, on a statement with the lines of the file."""
    text = str(error)
    match = _DUCKDB_LINE.search(text)
    message = " ".join(_DUCKDB_LINE.sub("", text).split()).rstrip(".")
    return lookup_error(path, int(match[1]), message) if match else LookupFileError(f"{path}: {message}.")
