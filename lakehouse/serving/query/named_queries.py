"""Named queries: `.sql` files whose leading comment says, in YAML, their name, what they give and what they take.

A parameter stands in the SQL as `$days`. One without a default must be given; `today` and `now` are defaults of dates
and timestamps. How a query is run, and what HTTP makes of it, is not known here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lakehouse.errors import ParameterError, QueryFileError

FOLDER = Path(__file__).with_name("queries")

HEADER = re.compile(r"\s*/\*(?P<yaml>.*?)\*/", re.DOTALL)
NAME = r"^[a-z][a-z0-9_]{0,62}$"

Value = str | int | Decimal | bool | date | datetime

TYPES: Mapping[str, TypeAdapter[Any]] = {
    "text": TypeAdapter(str),
    "integer": TypeAdapter(int),
    "number": TypeAdapter(Decimal),
    "boolean": TypeAdapter(bool),
    "date": TypeAdapter(date),
    "timestamp": TypeAdapter(datetime),
}
RELATIVE = {"date": "today", "timestamp": "now"}


class Parameter(BaseModel):
    """A parameter as the header describes it."""

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
        if self.default is not None and self.default != RELATIVE.get(self.type):
            self.read(self.default)
        return self

    def read(self, value: Any) -> Value:
        """The value, of this type and within bounds. Raises ValueError that says what is allowed."""
        try:
            # Text as HTTP brings it, or a value as YAML or JSON has it.
            found: Value = TYPES[self.type].validate_python(str(value) if self.type == "number" else value)
        except ValidationError as problem:
            raise ValueError(f"{value!r} is no {self.type}: {problem.errors()[0]['msg'].lower()}") from None
        if self.enum is not None and found not in self.enum:
            raise ValueError(f"{value!r} is none of {', '.join(self.enum)}")
        if isinstance(found, Decimal | int) and not isinstance(found, bool):
            if not Decimal(found).is_finite():
                raise ValueError(f"{value!r} is no finite number")
            if self.minimum is not None and found < self.minimum:
                raise ValueError(f"{value} is less than {self.minimum}")
            if self.maximum is not None and found > self.maximum:
                raise ValueError(f"{value} is more than {self.maximum}")
        if isinstance(found, datetime):
            return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
        return found

    def absent(self) -> Value | None:
        """The value where none is given."""
        if self.default is not None and self.default == RELATIVE.get(self.type):
            now = datetime.now(UTC).replace(tzinfo=None)
            return now if self.type == "timestamp" else now.date()
        return None if self.default is None else self.read(self.default)


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)
    description: str = Field(min_length=1)
    parameters: dict[str, Parameter] = {}


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One file: its name, what it gives, its parameters and its SQL."""

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    sql: str
    path: Path

    def bind(self, given: Mapping[str, Any]) -> dict[str, Value | None]:
        """Every parameter's value. Raises ParameterError that names those that are unknown, missing or wrong."""
        unknown = sorted(given.keys() - self.parameters.keys())
        if unknown:
            there = ", ".join(self.parameters) or "none"
            raise ParameterError(f"{self.name} has no parameter {', '.join(unknown)}; there are: {there}.")
        missing = [name for name, one in self.parameters.items() if one.required and name not in given]
        if missing:
            raise ParameterError(f"{self.name} needs {', '.join(missing)}.")
        return {name: self._value(name, one, given) for name, one in self.parameters.items()}

    def _value(self, name: str, parameter: Parameter, given: Mapping[str, Any]) -> Value | None:
        if given.get(name) is None:
            return parameter.absent()
        try:
            return parameter.read(given[name])
        except ValueError as problem:
            raise ParameterError(f"{name}: {problem}.") from None


def read_queries(folders: Iterable[Path] = ()) -> dict[str, NamedQuery]:
    """The queries of the package and of these folders, by name; a later folder's wins.

    Raises QueryFileError naming file, field and what is allowed.
    """
    found: dict[str, NamedQuery] = {}
    for folder in (FOLDER, *folders):
        if not folder.is_dir():
            raise QueryFileError(f"{folder} is no folder; LAKEHOUSE_QUERIES names folders of .sql files.")
        for path in sorted(folder.glob("*.sql")):
            query = read_query(path)
            found[query.name] = query
    return dict(sorted(found.items()))


def read_query(path: Path) -> NamedQuery:
    """The query of one file. Raises QueryFileError naming file, field and what is allowed."""
    text = path.read_text()
    match = HEADER.match(text)
    if match is None:
        raise QueryFileError(f"{path}: begins with no /* … */ comment that says name, description and parameters.")
    header = _header(path, match["yaml"])
    sql = text[match.end() :].strip().rstrip(";")
    _check(path, header, sql)
    return NamedQuery(header.name, header.description, header.parameters, sql, path)


def _header(path: Path, text: str) -> _Header:
    try:
        content = yaml.safe_load(text)
        return _Header.model_validate(content)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        raise QueryFileError(f"{path}:{where} the header is no YAML: {getattr(problem, 'problem', problem)}.") from None
    except ValidationError as problem:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'header'}: {e['msg']}" for e in problem.errors())
        raise QueryFileError(f"{path}: {wrong}") from None


def _check(path: Path, header: _Header, sql: str) -> None:
    if header.name != path.stem:
        raise QueryFileError(f"{path}: name: {header.name!r} must be the file's name, {path.stem!r}.")
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as problem:
        raise QueryFileError(f"{path}: {problem}") from problem
    if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
        raise QueryFileError(f"{path}: must hold one SELECT after its header.")
    used = {str(name) for name in statements[0].named_parameters}
    if used != header.parameters.keys():
        raise QueryFileError(
            f"{path}: the header has the parameters {_listed(header.parameters)}, the SQL uses {_listed(sorted(used))}."
        )


def _listed(names: Iterable[str]) -> str:
    listed: Sequence[str] = [*names]
    return ", ".join(listed) or "none"
