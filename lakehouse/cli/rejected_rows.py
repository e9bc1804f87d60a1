"""The files of `quarantine export` and `quarantine replay --rows`: rejected rows as NDJSON or CSV.

A row has the fields of its event, and beside them where it came from and why it was rejected.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.quarantine import RejectedRow, RowPlace

OBJECT, ROW, REASONS, RAW = "_object", "_row", "_reasons", "_raw"
"""Columns beside the fields; `_raw` is the text of a row that is not a JSON object."""


@contextmanager
def opened(output: Path | None) -> Iterator[IO[str]]:
    """Open a file for writing, or standard output for None. Raises LakehouseError if it can't be written."""
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise LakehouseError(f"Can't write {output}: {error.strerror or error}.") from error


def write_rows(stream: Stream, rows: Iterable[RejectedRow], file: IO[str], form: str) -> int:
    """Write rejected rows as `ndjson` or `csv`, and return how many."""
    records = map(_record, rows)
    return _write_csv(stream, records, file) if form == "csv" else _write_ndjson(records, file)


def _record(row: RejectedRow) -> dict[str, Any]:
    place = {OBJECT: row.object, ROW: row.row, REASONS: row.reasons}
    try:
        fields = json.loads(row.raw)
    except ValueError:
        fields = None
    return place | (fields if isinstance(fields, dict) else {RAW: row.raw})


def _write_ndjson(records: Iterable[dict[str, Any]], file: IO[str]) -> int:
    written = 0
    for record in records:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        written += 1
    return written


def _write_csv(stream: Stream, records: Iterable[dict[str, Any]], file: IO[str]) -> int:
    """Write a column for each field of the contract; fields that it does not know stay in landing."""
    columns = [OBJECT, ROW, REASONS, *(field.source for field in stream.contract.fields), RAW]
    writer = csv.DictWriter(file, columns, extrasaction="ignore")
    writer.writeheader()
    written = 0
    for record in records:
        reasons = "; ".join(record[REASONS])
        writer.writerow({name: _cell(value) for name, value in record.items()} | {REASONS: reasons})
        written += 1
    return written


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value


def read_rows(stream: Stream, file: Path) -> Iterator[tuple[RowPlace, dict[str, Any]]]:
    """Read the fixed rows of a file: where each came from, and its fields.

    Raises LakehouseError, which names the row, if the file can't be read or a row has no place.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            records = _read_csv(stream, lines) if file.suffix.lower() == ".csv" else _read_ndjson(lines)
            for number, record in enumerate(records, start=1):
                try:
                    place = (str(record.pop(OBJECT)), int(record.pop(ROW)))
                except (KeyError, TypeError, ValueError):
                    raise LakehouseError(
                        f"{file}: row {number} has no {OBJECT} and {ROW}, which say which rejected row it replaces."
                    ) from None
                record.pop(REASONS, None)
                record.pop(RAW, None)
                yield place, record
    except (OSError, UnicodeDecodeError) as error:
        raise LakehouseError(f"Can't read {file}: {error}.") from error
    except ValueError as error:
        raise LakehouseError(f"{file} is not NDJSON with one object a line: {error}.") from error


def _read_ndjson(lines: IO[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.strip():
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"{line.strip()[:40]} is not an object")
            yield record


def _read_csv(stream: Stream, lines: IO[str]) -> Iterator[dict[str, Any]]:
    lists = {field.source for field in stream.contract.fields if field.type.kind == "list"}
    for row in csv.DictReader(lines):
        # An empty cell is a missing value.
        yield {name: json.loads(text) if name in lists else text for name, text in row.items() if name and text}
