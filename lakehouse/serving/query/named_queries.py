"""Named queries: `.sql` files that start with a YAML comment of their name, description and parameters.

The SQL uses a parameter as `$days`. A parameter without a default is required. `today` and `now` can be defaults of dates
and timestamps. See `reader_pool` for running a query and `serving.api.named_queries` for its HTTP endpoint.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lakehouse.contracts.times import naive_utc
from lakehouse.errors import NotFoundError, ParameterError, QueryFileError
from lakehouse.models.chart import Chart, ChartError, read_chart
from lakehouse.models.header import COMMENT

BUILTIN_FOLDER = Path(__file__).with_name("queries")

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"

Value = str | int | Decimal | bool | date | datetime

TYPES: Mapping[str, TypeAdapter[Any]] = {
    "text": TypeAdapter(str),
    "integer": TypeAdapter(int),
    "number": TypeAdapter(Decimal),
    "boolean": TypeAdapter(bool),
    "date": TypeAdapter(date),
    "timestamp": TypeAdapter(datetime),
}
RELATIVE_DEFAULTS = {"date": "today", "timestamp": "now"}
"""The default of a type that stands for the time of the request."""


class Parameter(BaseModel):
    """A parameter as the file's header describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text", "integer", "number", "boolean", "date", "timestamp"]
    description: str = Field(min_length=1)
    default: Any = None
    enum: tuple[str, ...] | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return "default" not in self.model_fields_set

    @model_validator(mode="after")
    def _default_is_allowed(self) -> "Parameter":
        if self.default is not None and self.default != RELATIVE_DEFAULTS.get(self.type):
            self.parse(self.default)
        return self

    def parse(self, value: Any) -> Value:
        """Return the value in this type. Raises ValueError with the rule that it breaks."""
        try:
            # Text as HTTP brings it, or a value as YAML or JSON has it.
            parsed: Value = TYPES[self.type].validate_python(str(value) if self.type == "number" else value)
        except ValidationError as error:
            article = "an" if self.type == "integer" else "a"
            reason = error.errors()[0]["msg"].lower()
            raise ValueError(f"{value!r} is not {article} {self.type}: {reason}") from None
        if self.enum is not None and parsed not in self.enum:
            raise ValueError(f"{value!r} is none of {', '.join(self.enum)}")
        if isinstance(parsed, Decimal | int) and not isinstance(parsed, bool):
            self._check_bounds(parsed, value)
        return naive_utc(parsed) if isinstance(parsed, datetime) else parsed

    def _check_bounds(self, number: Decimal | int, value: Any) -> None:
        if not Decimal(number).is_finite():
            raise ValueError(f"{value!r} is not a finite number")
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"{value} is less than {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"{value} is more than {self.maximum}")

    def default_value(self) -> Value | None:
        """Return the value of a parameter that is not given."""
        if self.default is not None and self.default == RELATIVE_DEFAULTS.get(self.type):
            now = naive_utc(datetime.now(UTC))
            return now if self.type == "timestamp" else now.date()
        return None if self.default is None else self.parse(self.default)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN)
    description: str = Field(min_length=1)
    parameters: dict[str, Parameter] = {}


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query as its file describes it."""

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    sql: str
    path: Path
    chart: Chart | None = None
    """How the catalog draws its rows."""

    def bind(self, given: Mapping[str, Any]) -> dict[str, Value | None]:
        """Return every parameter's value. Raises ParameterError naming those that are unknown, missing or wrong."""
        unknown = sorted(given.keys() - self.parameters.keys())
        if unknown:
            raise ParameterError(
                f"{self.name} has no parameter {', '.join(unknown)}. It has: {_listed(self.parameters)}."
            )
        missing = [name for name, parameter in self.parameters.items() if parameter.required and name not in given]
        if missing:
            raise ParameterError(f"{self.name} needs {', '.join(missing)}.")
        return {name: self._value(name, parameter, given) for name, parameter in self.parameters.items()}

    def _value(self, name: str, parameter: Parameter, given: Mapping[str, Any]) -> Value | None:
        if given.get(name) is None:
            return parameter.default_value()
        try:
            return parameter.parse(given[name])
        except ValueError as error:
            raise ParameterError(f"{name}: {error}.") from None


def read_queries(folders: Iterable[Path] = (), *, examples: bool = True) -> dict[str, NamedQuery]:
    """Read the queries of the package and of these folders, by name. A later folder replaces a query of the same name.

    Without `examples`, the package's queries over its own streams are left out. Raises QueryFileError with the file, the
    field and the rule.
    """
    queries = (read_query(path) for path in query_files(folders, examples=examples))
    return dict(sorted({query.name: query for query in queries}.items()))


def reread_queries(
    before: Mapping[str, NamedQuery], folders: Iterable[Path], *, examples: bool
) -> tuple[dict[str, NamedQuery], list[str]]:
    """Read the queries again; one whose file is wrong stays as it was before. Returns them, and what is wrong."""
    queries, problems = dict[str, NamedQuery](), list[str]()
    known = {query.path: query for query in before.values()}
    for path in query_files(folders, examples=examples):
        try:
            query = read_query(path)
        except (QueryFileError, OSError, UnicodeDecodeError) as error:
            problems.append(str(error))
            if path not in known:
                continue
            query = known[path]
        queries[query.name] = query
    return dict(sorted(queries.items())), problems


def query_files(folders: Iterable[Path], *, examples: bool) -> list[Path]:
    """List the files of queries, the package's first. Raises QueryFileError if a folder does not exist."""
    paths = list[Path]()
    for folder in (BUILTIN_FOLDER, *folders):
        if not folder.is_dir():
            raise QueryFileError(f"{folder} is not a folder. LAKEHOUSE_QUERIES lists folders of .sql files.")
        paths += sorted(folder.glob("*.sql"))
    return [path for path in paths if examples or path.parent != BUILTIN_FOLDER or not streams_read(path.read_text())]


def find_query(queries: Mapping[str, NamedQuery], name: str) -> NamedQuery:
    """Return the query of this name. Raises NotFoundError with the names that exist."""
    if name not in queries:
        raise NotFoundError(f"There is no query {name!r}; there are {_listed(sorted(queries))}.")
    return queries[name]


def streams_read(sql: str) -> set[str]:
    """Find the streams whose unified views or live gold a query reads."""
    return {*re.findall(r"\bserving\.unified_(\w+)", sql), *re.findall(r"\bserving\.live_(\w+)_daily\b", sql)}


def read_query(path: Path) -> NamedQuery:
    """Read the query of one file. Raises QueryFileError with the file, the field and the rule."""
    text = path.read_text()
    match = COMMENT.match(text)
    if match is None:
        raise QueryFileError(f"{path}: must start with a /* … */ comment of name, description and parameters.")
    header = _header(path, match["yaml"])
    sql = text[match.end() :].strip().rstrip(";")
    _check(path, header, sql)
    try:
        chart = read_chart(text)
    except ChartError as error:
        raise chart_error(path, error) from error
    return NamedQuery(header.name, header.description, header.parameters, sql, path, chart)


def chart_error(path: Path, error: ChartError) -> QueryFileError:
    """Make the error of a query's file from that of its chart."""
    return QueryFileError(f"{path}: line {error.line}: {error}.")


def _header(path: Path, text: str) -> _Header:
    try:
        return _Header.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise QueryFileError(f"{path}:{line} the header is not YAML: {getattr(error, 'problem', error)}.") from None
    except ValidationError as error:
        breaches = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'header'}: {e['msg']}" for e in error.errors())
        raise QueryFileError(f"{path}: {breaches}") from None


def _check(path: Path, header: _Header, sql: str) -> None:
    if header.name != path.stem:
        raise QueryFileError(f"{path}: name: {header.name!r} must be the file's name, {path.stem!r}.")
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryFileError(f"{path}: {error}") from error
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise QueryFileError(f"{path}: must hold one SELECT after its header.")
    used = {str(name) for name in statements[0].named_parameters}
    if used != header.parameters.keys():
        raise QueryFileError(
            f"{path}: the header has the parameters {_listed(header.parameters)}, the SQL uses {_listed(sorted(used))}."
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
