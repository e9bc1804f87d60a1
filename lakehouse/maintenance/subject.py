"""The subject of an erasure, and the filters that recognise its rows: by columns in tables, by words in text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lakehouse.contracts.casts import value_sql
from lakehouse.contracts.sql import literal, quote
from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError

BETWEEN_GROUPS = r"\1{}\2"

REDACTED = "[erased]"
"""The text that takes the place of a subject's value in rows of others."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Field values of a stream that identify a subject. A row is the subject's if it has all of them."""

    stream: Stream
    values: Mapping[str, str]

    @classmethod
    def parse(cls, stream: Stream, words: Sequence[str]) -> "Subject":
        """Parse words such as `customer_id=17850`. Raises LakehouseError, naming the valid fields, if one cannot be used."""
        values: dict[str, str] = {}
        names = [field.name for field in stream.contract.fields]
        for word in words:
            name, _, value = word.partition("=")
            if not value:
                raise LakehouseError(f"--key {word!r} has no value. Write it like {names[0]}=abc.")
            if name not in names:
                raise LakehouseError(f"{stream.name} has no field {name!r}. Its fields are: {', '.join(names)}.")
            values[name] = value
        if not values:
            raise LakehouseError("No subject given. Name one with --key COLUMN=VALUE.")
        return cls(stream, values)

    def in_text(self, text: str) -> bool:
        """Return whether the text contains all the values, each as a whole word."""
        return all(re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w-])", text) for value in self.values.values())

    def in_bronze(self) -> str:
        """Return the SQL filter for bronze. It matches unreadable rows by the words of their raw text."""
        conditions = []
        for name, value in self.values.items():
            kind = self.stream.contract.field(name).type
            same = f"{quote(name)} = {literal(value)}"
            if kind.kind not in ("string", "list"):
                same = f"({same} or {value_sql(kind, quote(name))} = {value_sql(kind, literal(value))})"
            conditions.append(same)
        readable = " and ".join(conditions)
        return f"(coalesce({readable}, false) or coalesce({self.in_words('_raw')}, false))"

    def mentioned_in_bronze(self) -> str:
        """Return the SQL filter for rows of others in bronze that have all the values as words in their texts."""
        words = self.in_words(f"concat_ws(chr(10), {', '.join(map(quote, self.text_columns))})")
        return f"(not {self.in_bronze()} and coalesce({words}, false))"

    @property
    def text_columns(self) -> list[str]:
        """The columns of bronze in which a row can mention the subject: texts, lists of texts, and unknown fields."""
        fields = self.stream.contract.fields
        return [*(field.name for field in fields if field.type.kind in ("string", "list")), "_extra"]

    def redacted(self, column: str) -> str:
        """Return the SQL of a column of texts with REDACTED in place of each of the values."""
        text = quote(column)
        for value in self.values.values():
            word = re.escape(value)
            patterns = [(rf"(^|[^0-9A-Za-z_.-]){word}($|[^0-9A-Za-z_-])", REDACTED)]
            if column == "_extra":  # which must stay JSON: a number or truth value becomes null
                patterns.insert(0, (rf"([:,[]){word}(?:[.eE][0-9.eE+-]*)?([],}}])", "null"))
            # Twice, because two words may share the character between them.
            for pattern, replacement in [pattern for pattern in patterns for _ in range(2)]:
                text = _replaced(text, pattern, replacement)
        return text

    def in_words(self, text: str) -> str:
        """Return SQL that checks whether the expression `text` contains all the values, each as a whole word."""
        return " and ".join(
            f"regexp_matches({text}, {literal(rf'(^|[^0-9A-Za-z_.-]){re.escape(value)}($|[^0-9A-Za-z_-])')})"
            for value in self.values.values()
        )

    def in_table(self, columns: Mapping[str, str]) -> str | None:
        """Return the SQL filter for a table with these columns (types by name).

        None if the table lacks one of the subject's columns.
        """
        if not self.values.keys() <= columns.keys():
            return None
        return " and ".join(
            f"coalesce({quote(name)}::varchar = try_cast({literal(value)} as {columns[name]})::varchar, false)"
            for name, value in self.values.items()
        )

    def in_file(self, columns: Mapping[str, str]) -> str | None:
        """Return the SQL filter for a file with these columns (types by name); None if it has no text columns to search."""
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


def _replaced(text: str, pattern: str, replacement: str) -> str:
    """Return the SQL of a text in which `replacement` stands between the two groups of each match of the pattern."""
    return f"regexp_replace({text}, {literal(pattern)}, {literal(BETWEEN_GROUPS.format(replacement))}, 'g')"
