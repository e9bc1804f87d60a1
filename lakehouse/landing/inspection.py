"""Find out how a file is written, what a contract says of its first rows, and which options would make more of them valid.

Nothing is loaded. Options are tried with the landing readers and the contract's own SQL, so the answer is that of `load`.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from tempfile import NamedTemporaryFile
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.contracts.dialect import read_dialect
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import day_sql, literal, quarantine_sql
from lakehouse.landing.formats import Format
from lakehouse.landing.readers import InputObject, bronze_batches
from lakehouse.landing.readers.columns import FileColumns, read_columns
from lakehouse.landing.readers.content import DamagedContentError, decompressed_chunks, read
from lakehouse.landing.readers.parquet import parquet_types
from lakehouse.landing.readers.relation import format_of
from lakehouse.landing.readers.rows import DEFECT

MAX_ROWS = 10_000
"""Rows that are validated."""

SEARCH_ROWS = 300
"""Rows by which options are compared."""

SAMPLE_BYTES = 4 << 20

MAX_OPTIONS = 4
"""Options that are looked for, one after the other."""

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_DELIMITERS = (",", ";", "\t", "|", ", ", ":", "^", "~", " ")
NULLS = ("NA", "N/A", "n/a", "NULL", "null", "None", "nan", "NaN", "-", "--", "?", "\\N", "#N/A")
_FORMATS = (
    *("dd/MM/yyyy", "MM/dd/yyyy", "d/M/yyyy", "M/d/yyyy", "dd.MM.yyyy", "d.M.yyyy", "dd-MM-yyyy", "yyyy/MM/dd"),
    *("yyyyMMdd", "dd MMM yyyy", "MMM d, yyyy"),
)
_TIMES = ("", " HH:mm", " HH:mm:ss", " H:mm", " H:mm:ss", " h:mm a", " hh:mm:ss a")
_EPOCHS = ("epoch s", "epoch ms", "epoch us")


def time_formats() -> list[str]:
    """List the formats of times that are looked for, besides ISO 8601."""
    return [day + time for day in _FORMATS for time in _TIMES]


_REMEDIES: tuple[tuple[re.Pattern[str], Sequence[dict[str, Any]]], ...] = (
    (re.compile("invalid UTF-8|NUL"), [{"encoding": name} for name in ("cp1252", "utf-16-le", "utf-16-be")]),
    (
        re.compile("is missing|fields where the header|no column of the contract|quote"),
        [
            *({"delimiter": delimiter} for delimiter in _DELIMITERS),
            *({"skip": count} for count in range(1, 8)),
            *({"header": False}, {"trailingDelimiter": True}, {"comment": "#"}, {"quote": "'"}, {"escape": "\\"}),
        ],
    ),
    (
        re.compile("is not (an integer|a decimal|a finite number)|decimal mark"),
        [
            *({"decimal": ","}, {"decimal": ",", "thousands": "."}, {"decimal": ".", "thousands": ","}),
            *({"decimal": ",", "thousands": " "}, {"decimal": ".", "thousands": "'"}, {"decimal": "."}),
        ],
    ),
    (
        re.compile("is not true or false"),
        [{"true": yes, "false": no} for yes, no in (("yes", "no"), ("y", "n"), ("1", "0"), ("t", "f"))],
    ),
    (re.compile("is not "), [{"delimiter": ", "}]),
    (
        re.compile("is not a time"),
        [
            *({"timeFormat": [form]} for form in (*_EPOCHS, *time_formats())),
        ],
    ),
)
"""The reasons, and the options that may help."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of checking a file's first rows against a contract."""

    rows: int
    valid: int
    reasons: Mapping[str, int]
    unreadable: int = 0
    """Rows that have no fields, so that nothing else can be said of them."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Options, and how many of the first rows are valid with them. `others` would do as much: the file can't tell."""

    options: dict[str, Any]
    validation: Validation
    others: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Inspection:
    """How a file is written. Without a contract, only its format, encoding and columns are known."""

    format: Format
    encoding: str
    delimiter: str | None
    types: Mapping[str, str]
    """The type that each column's first values have, by its name."""
    columns: FileColumns
    validation: Validation | None = None
    advice: Advice | None = None


def validate_file(obj: InputObject, contract: Contract, max_rows: int) -> Validation:
    """Validate the first rows of a file, as `load` does. Raises what opening it raises."""
    with open_in_memory() as database:
        database.execute("set timezone = 'UTC'")
        return _SampleValidator(database, obj, contract).validate({}, max_rows)


def inspect_file(obj: InputObject, contract: Contract | None) -> Inspection:
    """Inspect a file. Raises what opening it raises."""
    file_format = format_of(obj)
    encoding = "" if file_format == "parquet" else _encoding(obj)
    sample = obj if file_format == "parquet" else _sample(obj)
    with open_in_memory() as database:
        database.execute("set timezone = 'UTC'")
        delimiter, types = _sniff(database, file_format, sample)
        if contract is None:
            return Inspection(file_format, encoding, delimiter, types, FileColumns((), ()))
        validator = _SampleValidator(database, sample, contract)
        validation = validator.validate({}, MAX_ROWS)
        advice = validator.advise() if file_format != "parquet" and validation.valid < validation.rows else None
    better = advice if advice and advice.validation.valid > validation.valid else None
    return Inspection(file_format, encoding, delimiter, types, read_columns(contract, obj), validation, better)


def _sniff(
    database: duckdb.DuckDBPyConnection, file_format: Format, sample: InputObject
) -> tuple[str | None, Mapping[str, str]]:
    """Return the delimiter, and the columns with their types; DuckDB guesses those of text. Nothing if it can't."""
    if file_format == "parquet":
        return None, parquet_types(sample)
    function = "read_csv_auto" if file_format == "csv" else "read_json_auto"
    with NamedTemporaryFile(suffix=f".{file_format}") as file:
        stream = sample.open()
        file.write(read(stream, sample.size))
        stream.close()
        file.flush()
        try:
            columns = database.execute(f"describe select * from {function}({literal(file.name)})").fetchall()
            sniffed = f"select delimiter from sniff_csv({literal(file.name)})"
            delimiter = database.execute(sniffed).fetchall()[0][0] if file_format == "csv" else None
        except duckdb.Error:
            return None, {}
    return delimiter, {name: kind.lower() for name, kind, *_ in columns}


def _encoding(obj: InputObject) -> str:
    """Name the encoding of the file's start. Of bytes that are not UTF-8 it can't be told, and cp1252 is the most frequent."""
    start = _start(obj)
    marks = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\0\0", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
    for mark, name in marks:
        if start.startswith(mark):
            return name
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return "utf-8" if error.start >= len(start) - 3 else "not utf-8, perhaps cp1252"
    return "utf-8"


def _start(obj: InputObject) -> bytes:
    start = b""
    try:
        for chunk in decompressed_chunks(obj):
            start += chunk
            if len(start) >= SAMPLE_BYTES:
                break
    except DamagedContentError:
        pass  # a row says so
    return start


def _sample(obj: InputObject) -> InputObject:
    """Cut a file after its first lines."""
    start = _start(obj)
    if len(start) >= SAMPLE_BYTES:
        start = start[: start.rfind(b"\n") + 1] or start
    name = re.sub(r"(\.(gz|zst|bz2|xz))+$", "", obj.name, flags=re.IGNORECASE)
    return InputObject(name, datetime.now(UTC), len(start), lambda: io.BytesIO(start))


class _SampleValidator:
    """Validates one sample by a contract with options."""

    def __init__(self, database: duckdb.DuckDBPyConnection, sample: InputObject, contract: Contract) -> None:
        self._database, self._sample, self._contract = database, sample, contract
        self._content = _start(sample)

    def validate(self, options: dict[str, Any], max_rows: int) -> Validation:
        """Count the valid rows and the reasons of the others."""
        contract = self._contract.written_in(read_dialect(options, self._contract.dialect))
        rows = _first_rows(bronze_batches(contract, [self._sample]), max_rows)
        if rows is None:
            return Validation(0, 0, {})
        self._database.register("sample", rows)
        bronze = f"(select *, {day_sql(contract, 'sample')} as dt from sample)"
        reasons = self._database.execute(
            f"with bronze as {bronze} select reasons from ({quarantine_sql(contract)})"
        ).fetchall()
        self._database.unregister("sample")
        counted = Counter(reason for (row_reasons,) in reasons for reason in row_reasons)
        unreadable = rows.num_rows - rows.column(DEFECT).null_count
        return Validation(rows.num_rows, rows.num_rows - len(reasons), dict(counted.most_common()), unreadable)

    def advise(self) -> Advice:
        """Add the option that makes most rows valid, again and again, until none does."""
        options: dict[str, Any] = {}
        others: list[dict[str, Any]] = []
        best = self.validate(options, SEARCH_ROWS)
        for _ in range(MAX_OPTIONS):
            candidates = (
                option
                for option in self._candidates(best, options)
                if not option.keys() & options.keys() or "nulls" in option
            )
            tried = [(self.validate(options | option, SEARCH_ROWS), option) for option in candidates]
            highest = max((validation for validation, _ in tried), key=_score, default=best)
            if _score(highest) <= _score(best):
                break
            (chosen, *ties) = [option for validation, option in tried if _score(validation) == _score(highest)]
            others += ties
            options, best = options | chosen, highest
        return Advice(options, self.validate(options, MAX_ROWS), others)

    def _candidates(self, validation: Validation, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the options that may do something about the reasons, beside those that are chosen."""
        reasons = "\n".join(validation.reasons)
        nulls = options.get("nulls", [])
        yield from ({"nulls": [*nulls, text]} for text in NULLS if text.encode() in self._content and text not in nulls)
        if "is missing" in reasons:
            yield from ({"envelope": path} for path in _envelopes(self._content))
        for pattern, candidates in _REMEDIES:
            if pattern.search(reasons):
                yield from candidates


def _envelopes(content: bytes) -> list[str]:
    """List the paths at which the first JSON object of a file holds arrays of objects, or objects."""
    try:
        first, _ = json.JSONDecoder().raw_decode(content.decode(errors="replace").lstrip("\ufeff \t\r\n"))
    except ValueError:
        return []
    members = first.items() if isinstance(first, dict) else ()
    named = [(name, value) for name, value in members if _PLAIN_NAME.fullmatch(name)]
    arrays = [f"$.{name}[*]" for name, value in named if isinstance(value, list) and any(map(_is_object, value))]
    return arrays + [f"$.{name}" for name, value in named if _is_object(value)]


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _score(validation: Validation) -> tuple[int, int, int]:
    return validation.valid, -validation.unreadable, -sum(validation.reasons.values())


def _first_rows(batches: Iterator[pa.RecordBatch], max_rows: int) -> pa.Table | None:
    parts: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        parts.append(batch.slice(0, max_rows - count))
        count += len(parts[-1])
        if count >= max_rows:
            break
    return pa.Table.from_batches(parts) if parts else None
