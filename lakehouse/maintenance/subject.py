"""Whom an erasure is about, and how a row is told to be theirs: in tables by its columns, in text by its words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lakehouse.contracts.sql import literal, quote, value_sql
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError


@dataclass(frozen=True, slots=True)
class Subject:
    """Fields of a stream with the values that are somebody's: a row is theirs when it has them all."""

    stream: Stream
    values: Mapping[str, str]

    @classmethod
    def parse(cls, stream: Stream, words: Sequence[str]) -> "Subject":
        """From words such as `customer_id=17850`. Raises LakehouseError that names the fields there are."""
        values: dict[str, str] = {}
        names = [field.name for field in stream.contract.fields]
        for word in words:
            name, told, value = word.partition("=")
            if not told or not value:
                raise LakehouseError(f"--key {word!r} says no value; write one such as {names[0]}=abc.")
            if name not in names:
                raise LakehouseError(f"{stream.name} has no field {name!r}; there are {', '.join(names)}.")
            values[name] = value
        if not values:
            raise LakehouseError("Say whose rows with --key COLUMN=VALUE.")
        return cls(stream, values)

    def in_text(self, text: str) -> bool:
        """Whether all the values are in a text, each as a word of its own."""
        return all(re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w-])", text) for value in self.values.values())

    def in_bronze(self) -> str:
        """The SQL filter of their rows of bronze; of rows that could not be read, those whose text has the values."""
        fields = []
        for name, value in self.values.items():
            kind = self.stream.contract.field(name).type
            same = f"{quote(name)} = {literal(value)}"
            if kind.kind not in ("string", "list"):
                same = f"({same} or {value_sql(kind, quote(name))} = {value_sql(kind, literal(value))})"
            fields.append(same)
        readable = " and ".join(fields)
        return f"(coalesce({readable}, false) or coalesce({self.in_words('_raw')}, false))"

    def in_words(self, text: str) -> str:
        """The SQL of whether a text has all the values, each as a word of its own."""
        return " and ".join(
            f"regexp_matches({text}, {literal(rf'(^|[^0-9A-Za-z_.-]){re.escape(value)}($|[^0-9A-Za-z_-])')})"
            for value in self.values.values()
        )

    def in_table(self, columns: Mapping[str, str]) -> str | None:
        """The SQL filter of their rows of a table with these columns (types by name); None where it can't tell whose rows
        it holds.
        """
        if not self.values.keys() <= columns.keys():
            return None
        return " and ".join(
            f"coalesce({quote(name)}::varchar = try_cast({literal(value)} as {columns[name]})::varchar, false)"
            for name, value in self.values.items()
        )

    def in_file(self, columns: Mapping[str, str]) -> str | None:
        """The SQL filter of their rows of a file with these columns; None where it has no text."""
        if where := self.in_table(columns):
            return f"({where}) or coalesce({self.in_words('_raw')}, false)" if "_raw" in columns else where
        if "raw" in columns:
            fields = " and ".join(
                f"json_extract_string(raw, {literal(self._path(name))}) = {literal(value)}"
                for name, value in self.values.items()
            )
            is_object = "json_valid(raw) and json_type(raw) = 'OBJECT'"
            return f"coalesce(case when {is_object} then {fields} else {self.in_words('raw')} end, false)"
        texts = [
            f"{quote(name)}::varchar"
            for name, kind in columns.items()
            if kind.startswith(("varchar", "map(", "struct"))
        ]
        row = f"concat_ws(chr(10), {', '.join(texts)})"
        return f"coalesce({self.in_words(row)}, false)" if texts else None

    def _path(self, name: str) -> str:
        return f'$."{self.stream.contract.field(name).source}"'
