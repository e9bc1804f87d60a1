"""Parquet objects as columns of text. How a single value is written is in `values`."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from lakehouse.contracts.model import Contract, Field
from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.arrow import Array, Scalar, no_texts, places
from lakehouse.landing.readers.content import Damage, read, unpacked
from lakehouse.landing.readers.delimited import Layout
from lakehouse.landing.readers.header import layout
from lakehouse.landing.readers.json_text import Pairs, Value
from lakehouse.landing.readers.rows import Columns, Defect, Task, columns_of
from lakehouse.landing.readers.source import Readable, Source
from lakehouse.landing.readers.text import NUL
from lakehouse.landing.readers.values import as_json, as_text, invalid_utf8, is_nested

BATCH_ROWS = 16384


class _ReadError(Exception):
    """Reading failed, which says nothing about the file; its cause is what is raised in the end."""


def parquet_tasks(contract: Contract, source: Source) -> Iterator[Task]:
    """The object's rows, as tasks."""
    try:
        yield from _tasks(contract, source)
    except _ReadError as problem:
        raise problem.__cause__ or problem from None


def _tasks(contract: Contract, source: Source) -> Iterator[Task]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(_opened(source))
            file = stack.enter_context(pq.ParquetFile(opened, coerce_int96_timestamp_unit="us"))
        except (Damage, pa.ArrowException, OSError) as problem:
            yield partial(_defect, f"not a Parquet file: {_first_line(problem)}", len(contract.fields))
            return
        found = layout(contract, file.schema_arrow.names)
        for group in range(file.num_row_groups):
            yield from _group_tasks(contract, found, file, group)


def _group_tasks(contract: Contract, found: Layout, file: pq.ParquetFile, group: int) -> Iterator[Task]:
    rows, read = file.metadata.row_group(group).num_rows, 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False):
            yield partial(_columns, contract, found, batch)
            read += batch.num_rows
    except (pa.ArrowException, OSError) as problem:
        where = f"row group {group + 1} of {file.num_row_groups} is damaged"
        reason = f"{where}, {rows - read} of its {rows} rows are lost: {_first_line(problem)}"
        yield partial(_defect, reason, len(contract.fields))


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)[:300]


def _defect(reason: str, width: int) -> list[Columns]:
    return [columns_of([Defect(reason, None)], width)]


class _File(io.RawIOBase):
    """A seekable object as pyarrow wants one."""

    def __init__(self, opened: Readable, size: int) -> None:
        self._opened, self._size, self._at = opened, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        self._opened.seek(self._at)  # type: ignore[attr-defined]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = max(self._size - self._at, 0)
        wanted = left if size < 0 else min(size, left)
        parts: list[bytes] = []
        try:
            while wanted and (part := read(self._opened, wanted)):
                parts.append(part)
                wanted -= len(part)
        except Exception as problem:
            raise _ReadError from problem
        found = b"".join(parts)
        self._at += len(found)
        return found

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()


def _opened(source: Source) -> AbstractContextManager[Any]:
    """The object where Parquet's footer can be read first: in place if that can be done, else copied to disk."""
    try:
        if not source.name.lower().endswith((".gz", ".zst")):
            opened = source.open()
            if hasattr(opened, "seek"):
                return pa.PythonFile(_File(opened, source.size), mode="r")
            opened.close()
        return _copied(source)
    except Damage:
        raise
    except Exception as problem:
        raise _ReadError from problem


def _copied(source: Source) -> AbstractContextManager[Any]:
    with ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        for chunk in unpacked(source):
            copy.write(chunk)
        copy.seek(0)
        stack.pop_all()
        return copy


def _columns(contract: Contract, found: Layout, batch: pa.RecordBatch) -> list[Columns]:
    count = batch.num_rows
    nothing = no_texts(count)
    reasons: dict[int, list[str]] = {}
    if found.defect:
        return [_refused(batch, {i: [found.defect] for i in range(count)}, len(contract.fields))]
    fields = [
        nothing if place is None else _field(field, batch.column(place), reasons)
        for field, place in zip(contract.fields, found.places, strict=True)
    ]
    extra = _extra(found, batch)
    for texts in (*fields, extra):
        _note_nul(texts, reasons)
    if not reasons:
        return [Columns([*fields, extra, nothing, nothing], count)]
    bad = np.zeros(count, bool)
    bad[list(reasons)] = True
    refused = _refused(batch, reasons, len(fields)).arrays
    good = [*fields, extra, nothing, nothing]
    return [Columns([pc.replace_with_mask(a, pa.array(bad), b) for a, b in zip(good, refused, strict=True)], count)]


def _field(field: Field, values: Array, reasons: dict[int, list[str]]) -> Array:
    kind = values.type
    if not is_nested(kind):
        for i in invalid_utf8(values):
            reasons.setdefault(i, []).append(f"{field.name}: invalid UTF-8")
        return as_text(values)
    if field.type.kind == "list" and (pt.is_list(kind) or pt.is_large_list(kind)) and _is_text(kind.value_type):
        return pa.array([_list(i, field, value, reasons) for i, value in enumerate(values)], pa.string())
    wanted = {"list": "an array of texts", "string": "text"}.get(field.type.kind, "a single value")
    for i in places(values.is_valid()):
        reasons.setdefault(i, []).append(f"{field.name}: expected {wanted}, got a nested value")
    return no_texts(len(values))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind))


def _list(i: int, field: Field, value: Scalar, reasons: dict[int, list[str]]) -> str | None:
    if not value.is_valid:
        return None
    try:
        items = value.as_py()
    except UnicodeDecodeError:
        reasons.setdefault(i, []).append(f"{field.name}: invalid UTF-8")
        return None
    if None in items:
        reasons.setdefault(i, []).append(f"{field.name}: expected an array of texts, got one that holds null")
        return None
    if any("\0" in item for item in items):
        reasons.setdefault(i, []).append(NUL)
        return None
    return json_text.dump(items)


def _extra(found: Layout, batch: pa.RecordBatch) -> Array:
    held = [(name, batch.column(place)) for place, name in found.extras]
    held = [(name, column) for name, column in held if column.null_count < len(column)]
    if not held:
        return no_texts(batch.num_rows)
    names = [name for name, _ in held]
    rows = zip(*(as_json(column) for _, column in held), strict=True)
    return pa.array([_object(names, row) for row in rows], pa.string())


def _object(names: list[str], values: tuple[Value, ...]) -> str | None:
    held = Pairs((name, value) for name, value in zip(names, values, strict=True) if value is not None)
    return json_text.dump(held) if held else None


def _note_nul(texts: Array, reasons: dict[int, list[str]]) -> None:
    data = texts.buffers()[2]
    if data is None or b"\0" not in memoryview(data).tobytes():
        return
    for i, text in enumerate(texts.to_pylist()):
        if text is not None and "\0" in text and NUL not in reasons.get(i, ()):
            reasons.setdefault(i, []).append(NUL)


def _refused(batch: pa.RecordBatch, reasons: dict[int, list[str]], width: int) -> Columns:
    """The rows that have reasons, in order, each with itself as JSON."""
    at = sorted(reasons)
    part = batch.take(pa.array(at, pa.int64()))
    rows = zip(*(as_json(column) for column in part.columns), strict=True)
    raws = [json_text.dump(Pairs(zip(batch.schema.names, row, strict=True))).replace("\0", "\\x00") for row in rows]
    return columns_of([Defect("; ".join(reasons[i]), raw) for i, raw in zip(at, raws, strict=True)], width)
