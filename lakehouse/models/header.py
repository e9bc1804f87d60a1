"""The header of a model: a YAML comment that says what its SQL can't."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from lakehouse.contracts.yaml_lines import line_of
from lakehouse.models.problems import model_error

COMMENT = re.compile(r"(?:\s|--[^\n]*\n)*/\*(?P<yaml>.*?)\*/", re.DOTALL)
"""The YAML of a header, which lines such as that of a chart may precede."""

MAX_LOOK_BACK_DAYS = 366

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""One name, or a list of them."""

Value = str | int | float | bool


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML was built with it: five times as fast


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Checks(_Part):
    """The rules that the rows of a run must keep."""

    not_null: Names = ()
    unique: Names = ()
    """Columns that are unique together."""
    accepted: dict[str, tuple[Value, ...]] = {}
    """The values that a column may have, besides null."""
    relationship: dict[str, str] = {}
    """By column, the `layer.table.column` that has each of its values."""
    row_count: float | None = Field(None, gt=0)
    """By what share the rows of a day may be more or fewer than those of the day before."""
    nothing: dict[str, str] = {}
    """SELECTs over `this`, the written rows, that return no row; by the name of the check."""

    @field_validator("relationship")
    @classmethod
    def _names_a_column(cls, value: dict[str, str]) -> dict[str, str]:
        for target in value.values():
            if target.count(".") != 2:
                raise ValueError(f"{target!r} must be layer.table.column")
        return value


class History(_Part):
    """Keeps each version of an entity as a row, from when to when it was valid: a dimension of type 2."""

    key: Names = Field(min_length=1)
    version: str
    """The column that says when a version began."""
    deleted: str | None = None
    """A condition that holds for a row that ends its entity."""


class Header(_Part):
    """The header of a model."""

    description: str = Field(min_length=1)
    partition: Literal["dt", "none"] = "dt"
    look_back: int = Field(0, ge=0, le=MAX_LOOK_BACK_DAYS)
    """How many days before a partition it reads, too."""
    key: Names = ()
    owner: str = Field("lakehouse", pattern=r"^[A-Za-z0-9_.@-]+$")
    schedule: str = "eager"
    """`eager`, or the cron expression, in UTC, of the times at which it is computed."""
    ignore_changes: Names = ()
    """Tables without partitions whose changes do not make computed days stale."""
    history: History | None = None
    reads: Names = ()
    """The tables that a model in Python takes; those of SQL are found in it."""
    columns: dict[str, str] = {}
    """The columns of a model in Python with their SQL types, where they can't be told from a call without rows."""
    checks: Checks = Checks()

    @model_validator(mode="before")
    @classmethod
    def _history_is_whole(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("history") is not None:
            return {"partition": "none", **values}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> "Header":
        if self.partition == "none" and self.look_back:
            raise ValueError("look_back needs partition: dt")
        if self.partition == "none" and self.checks.row_count is not None:
            raise ValueError("checks.row_count needs partition: dt")
        if self.history and self.partition != "none":
            raise ValueError("history needs partition: none")
        return self


def parse_header(path: Path, text: str, line: int = 1) -> Header:
    """Read a header whose YAML starts on this line of the file. Raises ModelError with the line, the field and the rule."""
    try:
        values = yaml.load(text, _Loader)  # noqa: S506  # it is a safe one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", error)
        raise model_error(path, f"the header is not YAML: {problem}", line + mark.line if mark else line) from None
    if not isinstance(values, dict):
        raise model_error(path, "the header must be YAML such as: description: Revenue by country.", line)
    try:
        return Header.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        found = line_of(text, where) if where else None
        message = first["msg"].removeprefix("Value error, ")
        raise model_error(path, f"{where or 'header'}: {message}", line + found - 1 if found else line) from None
