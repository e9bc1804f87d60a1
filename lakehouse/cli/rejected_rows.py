"""The files of `quarantine export` and `quarantine replay --rows`: rejected rows as NDJSON or CSV.

A row has the fields of its event, and beside them where it came from and why it was rejected.
"""

import csv
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.json_text import Literal, Pairs, Value
from lakehouse.pipeline.quarantine import RejectedRow, RowPlace

OBJECT, ROW, REASONS, FILE, RAW = OWN_COLUMNS = ("_object", "_row", "_reasons", "_file", "_raw")
"""Columns beside the fields; `_raw` is the text of a row that is not a JSON object, `_file` the name of its file, if any."""


@contextmanager
def opened(output: Path | None) -> Iterator[IO[str]]:
    """Open a file for writing, or standard output for None. Raises LakehouseError if it can't be written."""
    if output is None:
        yield sys.stdout
        return
    try:
        # Half of a surrogate pair, which no file can hold, is written as the escape that JSON has for it.
        with output.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
    except OSError as error:
        raise LakehouseError(f"Can't write {output}: {error.strerror or error}.") from error


def write_rows(stream: Stream, rows: Iterable[RejectedRow], file: IO[str], form: str) -> int:
    """Write rejected rows as `ndjson` or `csv`, and return how many."""
    lists = _list_columns(stream)
    records = (_record(row, lists) for row in rows)
    return _write_csv(stream, records, file) if form == "csv" else _write_ndjson(records, file)


def _list_columns(stream: Stream) -> set[str]:
    return {field.source for field in stream.contract.fields if field.type.kind == "list"}


def _record(row: RejectedRow, lists: Collection[str]) -> Pairs:
    """Return a row's place and fields. Numbers keep their digits, and lists, which quarantine holds as texts, are arrays."""
    place = Pairs([(OBJECT, row.object), (ROW, Literal(row.row)), (REASONS, row.reasons)])
    if row.file is not None:
        place.append((FILE, row.file))
    value = _parse(row.raw)
    if not isinstance(value, Pairs):
        return Pairs([*place, (RAW, row.raw)])
    fields = ((name, _as_list(member) if name in lists else member) for name, member in value)
    return Pairs([*place, *((name, member) for name, member in fields if name not in OWN_COLUMNS)])


def _parse(text: str) -> Value:
    """Parse JSON; None if the text is not JSON."""
    try:
        return None if json_text.is_too_deep(text) else json_text.parse(text)
    except ValueError:
        return None


def _as_list(value: Value) -> Value:
    """Turn the text of a list into the list. Any other value stays as it is."""
    parsed = _parse(value) if isinstance(value, str) else None
    return parsed if isinstance(parsed, list) and not isinstance(parsed, Pairs) else value


def _write_ndjson(records: Iterable[Pairs], file: IO[str]) -> int:
    written = 0
    for record in records:
        file.write(json_text.dump(record) + "\n")
        written += 1
    return written


def _write_csv(stream: Stream, records: Iterable[Pairs], file: IO[str]) -> int:
    """Write a column for each field of the contract; fields that it does not know stay in landing."""
    columns = [OBJECT, ROW, REASONS, FILE, *(field.source for field in stream.contract.fields), RAW]
    writer = csv.DictWriter(file, columns, extrasaction="ignore")
    writer.writeheader()
    written = 0
    for record in records:
        cells = {name: _cell(value) for name, value in record}
        writer.writerow(cells | {REASONS: "; ".join(dict(record)[REASONS])})
        written += 1
    return written


def _cell(value: Value) -> str | None:
    return value if value is None or isinstance(value, str) else json_text.dump(value)


def read_rows(stream: Stream, file: Path) -> Iterator[tuple[RowPlace, dict[str, Value]]]:
    """Read the fixed rows of a file: where each came from, and its fields as `json_text` has them.

    Raises LakehouseError, which names the row, if the file can't be read or a row has no place.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            records = _read_csv(stream, lines) if file.suffix.lower() == ".csv" else _read_ndjson(lines)
            for number, record in enumerate(records, start=1):
                try:
                    place = (str(record.pop(OBJECT)), int(str(record.pop(ROW))))
                except (KeyError, TypeError, ValueError):
                    raise LakehouseError(
                        f"{file}: row {number} has no {OBJECT} and {ROW}, which say which rejected row it replaces."
                    ) from None
                record.pop(REASONS, None)
                record.pop(FILE, None)
                record.pop(RAW, None)
                yield place, record
    except (OSError, UnicodeDecodeError) as error:
        raise LakehouseError(f"Can't read {file}: {error}.") from error
    except ValueError as error:
        raise LakehouseError(f"{file} is not NDJSON with one object a line: {error}.") from error


def _read_ndjson(lines: IO[str]) -> Iterator[dict[str, Value]]:
    for line in lines:
        if line.strip():
            record = None if json_text.is_too_deep(line) else json_text.parse(line)
            if not isinstance(record, Pairs):
                raise ValueError(f"{line.strip()[:40]} is not an object")
            yield dict(record)


def _read_csv(stream: Stream, lines: IO[str]) -> Iterator[dict[str, Value]]:
    lists = _list_columns(stream)
    for row in csv.DictReader(lines):
        # An empty cell is a missing value.
        yield {name: _as_list(text) if name in lists else text for name, text in row.items() if name and text}
