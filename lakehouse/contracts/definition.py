"""Number what a stream's rows are computed by: the contract's rules and one SQL file. Tables store the number as lineage.

A number is the hash of a canonical form, which names rules as ODCS does and splits SQL into tokens. Names in this code,
descriptions, comments, white space and the case of keywords therefore don't change it. `earlier_definitions.json` keeps the
numbers that releases before the canonical form have stored; see `lakehouse_tests/contracts/earlier_definitions.py`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lakehouse.contracts.model import Contract, Field, FieldType

FORM = 1
"""The version of the canonical form. Another form gives other numbers: then this one's have to be kept as earlier ones."""

NUMBER_BYTES = 6
"""A number fits in the 53 bits that JSON readers keep exactly."""

EARLIER = Path(__file__).parent / "earlier_definitions.json"
"""For each stream of the package, SQL file and number: the numbers that earlier releases stored for the same rows."""

# The lexer is ours because the numbers are stored for years: a library that splits a token in another way would change all
# of them. sqlglot also takes half a second to import, in every process of a run.
_TOKEN = re.compile(
    r"""
      (?P<ignored> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<kept> [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<word> [A-Za-z_\x80-\U0010ffff][\w$]* )
    | (?P<number> \.?\d(?:[eE][+-](?=\d)|[\w.])* )
    | (?P<sign> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

_SOURCE_PREFIX = "definition."


@dataclass(frozen=True, slots=True)
class Definition:
    """The number of the rules and SQL that one of a stream's tables is computed by."""

    stream: str
    number: int
    earlier: frozenset[int] = frozenset()
    """Numbers that earlier releases stored for the same definition."""

    version: str = field(default="", compare=False)
    """The number as text for Dagster, which compares texts: the earliest one where it is known."""

    @property
    def source(self) -> str:
        """The name under which tables store the number beside the tables they are computed from."""
        return f"{_SOURCE_PREFIX}{self.stream}"

    @property
    def sources(self) -> dict[str, int]:
        """The number by its name, to be stored with the sequence numbers of the source tables."""
        return {self.source: self.number}

    def matches(self, number: int | None) -> bool:
        """Return whether rows stored with `number` were computed by this definition."""
        return number is not None and (number == self.number or number in self.earlier)


def is_definition(source: str) -> bool:
    """Return whether the name of a source, as a table stores it, is that of a definition and not of a table."""
    return source.startswith(_SOURCE_PREFIX)


def define(stream: str, query: str, sql: str, contract: Contract | None = None) -> Definition:
    """Number the text of one SQL file, together with the contract's rules where those decide as well."""
    number = canonical_number(sql, contract)
    recorded = _recorded().get(stream, {}).get(query, {}).get(str(number), [])
    return Definition(
        stream, number, frozenset({*recorded, legacy_number(sql, contract)}), str(recorded[0] if recorded else number)
    )


def canonical_number(sql: str, contract: Contract | None = None) -> int:
    """Return the number of the canonical form: JSON with sorted keys of the form's version, the rules and the SQL's tokens."""
    form: dict[str, Any] = {"form": FORM, "sql": list(tokens(sql))}
    if contract is not None:
        form["rules"] = rules(contract)
    return _number(json.dumps(form, sort_keys=True, separators=(",", ":")))


def rules(contract: Contract) -> dict[str, Any]:
    """List the rules that decide a contract's rows, by the names of ODCS v3. Unset rules are left out.

    The order of fields is kept because reasons and raw texts in quarantine follow it.
    """
    dialect = contract.dialect.options()
    return {
        "properties": [_property(field) for field in contract.fields],
        "eventTime": contract.event_time,
        "historyStart": contract.history_start.isoformat(),
        "qualityThreshold": contract.quality_threshold,
        **({"dialect": dialect} if dialect else {}),
    }


def tokens(sql: str) -> Iterator[str]:
    """Split a DuckDB statement into tokens, without comments.

    Words are given in lower case because DuckDB ignores their case outside quotes. An operator is given a sign at a time,
    so that `a=-1` and `a = -1` are one.
    """
    at = 0
    while match := _TOKEN.match(sql, at):
        at = match.end()
        if match["comment"]:
            at = _end_of_comment(sql, at)
        elif not match["ignored"]:
            yield match[0].lower() if match["word"] else match[0]


def legacy_number(sql: str, contract: Contract | None = None) -> int:
    """Return the number that releases before the canonical form stored: a hash of raw texts.

    The rules were Python's `repr` of the contract's classes of that time. It is spelled out here because those classes
    change their names. It can go when homes last written by those releases need not be opened any more.
    """
    if contract is None:
        return _number(sql)
    fields = ", ".join(map(_legacy_field, contract.fields))
    start = contract.history_start
    day = f"datetime.date({start.year}, {start.month}, {start.day})"
    newer = f", {dialect}" if (dialect := contract.dialect.options()) else ""
    return _number(f"([{fields}], {contract.event_time!r}, {day}, {contract.quality_threshold!r}{newer})\n{sql}")


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:NUMBER_BYTES], "big")


@cache
def _recorded() -> Mapping[str, Mapping[str, Mapping[str, list[int]]]]:
    recorded: Mapping[str, Mapping[str, Mapping[str, list[int]]]] = json.loads(EARLIER.read_text(encoding="utf-8"))
    return recorded


def _property(field: Field) -> dict[str, Any]:
    named: dict[str, Any] = {
        "name": field.name,
        "physicalName": field.source,
        **_type(field.type),
        "required": field.required or None,
        "primaryKey": field.key or None,
        "enum": list(field.enum) or None,
        "minimum": _decimal(field.minimum),
        "maximum": _decimal(field.maximum),
        "exclusiveMinimum": _decimal(field.exclusive_minimum),
        "exclusiveMaximum": _decimal(field.exclusive_maximum),
        "pattern": field.pattern,
        "minLength": field.min_length,
        "maxLength": field.max_length,
        "format": [form.text for form in field.format] or None,
        "defaultTimezone": field.default_timezone,
    }
    return {name: value for name, value in named.items() if value is not None}


def _type(field_type: FieldType) -> dict[str, Any]:
    match field_type.kind:
        case "double" | "decimal":
            return {"logicalType": "number", "physicalType": str(field_type)}
        case "list":
            return {"logicalType": "array", "items": {"logicalType": "string"}}
        case kind:
            return {"logicalType": kind}


def _decimal(bound: object) -> str | None:
    """Return a bound as reasons in quarantine write it: 0 and 0.0 give other reasons."""
    return None if bound is None else str(bound)


def _end_of_comment(sql: str, at: int) -> int:
    """Return where the comment that was opened before `at` ends; comments nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return len(sql)


def _legacy_field(field: Field) -> str:
    kind = field.type
    # No release stored a number of that time for what it did not know.
    newer = f", {field.format!r}, {field.default_timezone!r}" if field.format or field.default_timezone else ""
    return (
        f"Field(name={field.name!r},"
        f" type=FieldType(kind={kind.kind!r}, precision={kind.precision!r}, scale={kind.scale!r}),"
        f" source={field.source!r}, description='', required={field.required!r}, key={field.key!r},"
        f" minimum={field.minimum!r}, maximum={field.maximum!r},"
        f" exclusive_minimum={field.exclusive_minimum!r}, exclusive_maximum={field.exclusive_maximum!r},"
        f" enum={field.enum!r}, pattern={field.pattern!r},"
        f" min_length={field.min_length!r}, max_length={field.max_length!r}{newer})"
    )
