"""Write the values of a CSV dialect plainly: decimal marks, thousands, booleans and nulls."""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.casts import DOUBLE
from lakehouse.contracts.dialect import Dialect
from lakehouse.contracts.model import Contract, Kind
from lakehouse.landing.readers.arrow import Array

_NUMBER_KINDS: tuple[Kind, ...] = ("integer", "double", "decimal")
_PLAIN_NUMBER = re.compile(DOUBLE)


class MisspelledValueError(Exception):
    """A value is written otherwise than the dialect says, and could be taken for another."""


class Spelling:
    """How the values of a contract's fields are written. `is_plain` says that nothing is to be done."""

    def __init__(self, contract: Contract, dialect: Dialect) -> None:
        self._names = tuple(field.name for field in contract.fields)
        self._kinds = tuple(field.type.kind for field in contract.fields)
        self._nulls = frozenset(dialect.nulls)
        self._booleans = {text.lower(): word for word in ("true", "false") for text in getattr(dialect, word)}
        self._decimal, self._thousands = dialect.decimal or ".", dialect.thousands or ""
        self._has_marks = dialect.decimal is not None or dialect.thousands is not None
        self._number = _number_pattern(self._decimal, self._thousands)
        self._is_number = re.compile(self._number).fullmatch
        self.is_plain = not (self._nulls or self._booleans or self._has_marks)

    def values(self, texts: Sequence[str | None]) -> list[str | None]:
        """Write one row's values plainly. Raises MisspelledValueError."""
        named = zip(self._names, self._kinds, texts, strict=True)
        return [None if text is None else self._value(name, kind, text) for name, kind, text in named]

    def extra_value(self, text: str | None) -> str | None:
        """Write the value of an unknown column plainly."""
        return None if text in self._nulls else text

    def columns(self, columns: Sequence[Array]) -> list[Array] | None:
        """Write many rows' values plainly. None if some of them have to be read row by row."""
        written = [self._column(kind, column) for kind, column in zip(self._kinds, columns, strict=True)]
        return (
            None if any(column is None for column in written) else [column for column in written if column is not None]
        )

    def extra_column(self, column: Array) -> Array:
        """Write the values of an unknown column plainly."""
        if not self._nulls:
            return column
        is_null: Any = pc.is_in(column, value_set=pa.array(sorted(self._nulls)))
        return pc.if_else(is_null, pa.scalar(None, pa.string()), column)  # type: ignore[no-any-return]

    def _value(self, name: str, kind: Kind, text: str) -> str | None:
        if text in self._nulls:
            return None
        if kind == "boolean":
            return self._booleans.get(text.lower(), text)
        if kind in _NUMBER_KINDS and self._has_marks:
            if self._is_number(text):
                return self._plain_number(kind, text)
            if _PLAIN_NUMBER.fullmatch(text):
                raise MisspelledValueError(f"{name}: {text} is not written with the decimal mark {self._decimal}")
        return text

    def _plain_number(self, kind: Kind, text: str) -> str:
        plain = text.replace(self._thousands, "") if self._thousands else text
        plain = plain.replace(self._decimal, ".")
        return re.sub(r"\.0*$", "", plain) if kind == "integer" else plain

    def _column(self, kind: Kind, column: Array) -> Array | None:
        column = self.extra_column(column)
        if kind == "boolean" and self._booleans:
            distinct: Any = column.dictionary_encode()
            words = [self._booleans.get(text.lower(), text) for text in distinct.dictionary.to_pylist()]
            return pa.array(words, pa.string()).take(distinct.indices)
        if kind not in _NUMBER_KINDS or not self._has_marks:
            return column
        is_number: Any = pc.match_substring_regex(column, f"^({self._number})$")
        if not pc.all(is_number, min_count=0).as_py():
            return None
        plain: Any = pc.replace_substring(column, self._thousands, "") if self._thousands else column
        plain = pc.replace_substring(plain, self._decimal, ".")
        return pc.replace_substring_regex(plain, r"\.0*$", "") if kind == "integer" else plain  # type: ignore[no-any-return]


def _number_pattern(decimal: str, thousands: str) -> str:
    point, whole = re.escape(decimal), "[0-9]+"
    if thousands:
        whole = rf"([0-9]+|[0-9]{{1,3}}({re.escape(thousands)}[0-9]{{3}})+)"
    return rf"[+-]?({whole}({point}[0-9]*)?|{point}[0-9]+)([eE][+-]?[0-9]+)?"
