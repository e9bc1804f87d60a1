"""Read Parquet objects as columns of text. See `parquet_values` for how a single value is written."""

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from lakehouse.contracts.model import Contract, Field
from lakehouse.landing.formats import COMPRESSION_SUFFIXES
from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.arrow import Array, Scalar, null_text, true_indices
from lakehouse.landing.readers.content import (
    DamagedContentError,
    InputObject,
    InputStream,
    decompressed_chunks,
    read,
)
from lakehouse.landing.readers.csv_records import ColumnLayout
from lakehouse.landing.readers.defects import NUL, Defect, escape_nul
from lakehouse.landing.readers.header import column_layout
from lakehouse.landing.readers.json_text import Pairs, Value
from lakehouse.landing.readers.parquet_values import as_json, as_text, invalid_utf8_indices
from lakehouse.landing.readers.rows import Columns, Task, columns_of

BATCH_ROWS = 16384

PARQUET_MAGIC = b"PAR1"
"""The first and the last bytes of a Parquet file."""

_FOOTER_LENGTH_BYTES = 8
"""The bytes after the footer: its length, and the magic ones."""


class _ReadError(Exception):
    """Reading from storage failed, which says nothing about the file. Its cause is raised in the end."""


class _Reasons(dict[int, list[str]]):
    """Why rows of a batch are defects, by row index."""

    def add(self, row: int, reason: str) -> None:
        self.setdefault(row, []).append(reason)


def parquet_tasks(contract: Contract, obj: InputObject) -> Iterator[Task]:
    """Split reading the object's rows into tasks. Raises what opening and reading the object raises."""
    try:
        yield from _tasks(contract, obj)
    except _ReadError as error:
        raise error.__cause__ or error from None


def has_no_rows(obj: InputObject) -> bool:
    """Return whether the object is a sound Parquet file of 0 rows. Raises what opening and reading the object raises."""
    with _opened(obj) as file:
        return not isinstance(file, Exception) and not file.metadata.num_rows


def parquet_layout(contract: Contract, obj: InputObject) -> ColumnLayout | None:
    """Read the object's schema alone. None if it is no Parquet file. Raises what opening and reading the object raises."""
    with _opened(obj) as file:
        return None if isinstance(file, Exception) else column_layout(contract, file.schema_arrow.names)


def parquet_types(obj: InputObject) -> dict[str, str]:
    """Read the object's columns and their types; none if it is no Parquet file."""
    with _opened(obj) as file:
        return {} if isinstance(file, Exception) else {field.name: str(field.type) for field in file.schema_arrow}


@contextmanager
def _opened(obj: InputObject, int96: str = "us") -> Iterator[pq.ParquetFile | Exception]:
    """Open the object, or yield why it is no Parquet file. Raises what opening and reading the object raises.

    `int96` is the unit of times that are stored in Parquet's old type INT96, which Spark and Impala write.
    """
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(_open_seekable(obj))
            file = stack.enter_context(pq.ParquetFile(opened, coerce_int96_timestamp_unit=int96))
            _check_start(opened, file.metadata)
        except (DamagedContentError, pa.ArrowException, OSError) as error:
            yield error
            return
        except _ReadError as error:
            raise error.__cause__ or error from None
        yield file


def _check_start(opened: Any, metadata: pq.FileMetaData) -> None:
    """Raise DamagedContentError if another Parquet file stands before this one, because only the last footer is read.

    Its footer would then lie between the last column and the footer, which otherwise has indexes and filters alone.
    """
    end = len(PARQUET_MAGIC)
    if metadata.num_row_groups:
        group = metadata.row_group(metadata.num_row_groups - 1)
        columns = (group.column(number) for number in range(group.num_columns))
        end = max((_end_of_column(column) for column in columns), default=end)
    size = opened.seek(0, io.SEEK_END)
    opened.seek(end)
    between = opened.read(max(size - _FOOTER_LENGTH_BYTES - metadata.serialized_size - end, 0))
    if PARQUET_MAGIC * 2 in between:
        raise DamagedContentError("it is several Parquet files one behind the other; load each by itself")


def _end_of_column(column: pq.ColumnChunkMetaData) -> int:
    start = column.dictionary_page_offset if column.has_dictionary_page else None
    return (start or column.data_page_offset) + column.total_compressed_size


def _tasks(contract: Contract, obj: InputObject) -> Iterator[Task]:
    with _opened(obj) as file:
        if isinstance(file, Exception):
            yield partial(_defect, f"not a Parquet file: {_first_line(file)}", len(contract.fields))
            return
        layout = column_layout(contract, file.schema_arrow.names)
        if not (old_times := _int96_columns(file)):
            for group in range(file.num_row_groups):
                batches = file.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False)
                yield from _row_group_tasks(contract, layout, file, group, batches)
            return
        with _opened(obj, "ns") as exact:
            if isinstance(exact, Exception):
                raise exact
            for group in range(file.num_row_groups):
                both = (each.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False) for each in (file, exact))
                batches = (_with_nanoseconds(one, other, old_times) for one, other in zip(*both, strict=True))
                yield from _row_group_tasks(contract, layout, file, group, batches)


def _int96_columns(file: pq.ParquetFile) -> list[str]:
    """List the columns, outside of lists and structs, with times in the type INT96."""
    leaves = (file.schema.column(number) for number in range(len(file.schema)))
    return [leaf.path for leaf in leaves if leaf.physical_type == "INT96" and leaf.path in file.schema_arrow.names]


def _with_nanoseconds(batch: pa.RecordBatch, exact: pa.RecordBatch, columns: list[str]) -> pa.RecordBatch:
    """Write times as text in columns where one has digits below a microsecond, so that these are judged and not cut off."""
    for name in columns:
        micros: Any = batch.column(name).cast(pa.int64())
        nanos: Any = exact.column(name).cast(pa.int64())
        # Nanoseconds of years before 1678 and after 2261 wrap around, and so does what is subtracted from them.
        below: Any = pc.subtract(nanos, pc.multiply(micros, 1000))
        is_whole: Any = pc.equal(below, pa.scalar(0))
        if not pc.all(is_whole).as_py():
            text: Any = as_text(batch.column(name))
            digits: Any = pc.utf8_lpad(below.cast(pa.string()), 3, "0")
            longer: Any = pc.binary_join_element_wise(text, digits, "")
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, name, pc.if_else(is_whole, text, longer))
    return batch


def _row_group_tasks(
    contract: Contract, layout: ColumnLayout, file: pq.ParquetFile, group: int, batches: Iterable[pa.RecordBatch]
) -> Iterator[Task]:
    rows, rows_read = file.metadata.row_group(group).num_rows, 0
    try:
        for batch in batches:
            yield partial(_columns, contract, layout, batch)
            rows_read += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        where = f"row group {group + 1} of {file.num_row_groups} is damaged"
        reason = f"{where}, {rows - rows_read} of its {rows} rows are lost: {_first_line(error)}"
        yield partial(_defect, reason, len(contract.fields))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]


def _defect(reason: str, width: int) -> list[Columns]:
    return [columns_of([Defect(reason, None)], width)]


class _SeekableFile(io.RawIOBase):
    """A seekable input stream as the file that pyarrow reads from."""

    def __init__(self, stream: InputStream, size: int) -> None:
        self._stream, self._size, self._at = stream, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        self._stream.seek(self._at)  # type: ignore[attr-defined]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = max(self._size - self._at, 0)
        missing = left if size < 0 else min(size, left)
        parts: list[bytes] = []
        try:
            while missing and (part := read(self._stream, missing)):
                parts.append(part)
                missing -= len(part)
        except Exception as error:
            raise _ReadError from error
        content = b"".join(parts)
        self._at += len(content)
        return content

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _open_seekable(obj: InputObject) -> AbstractContextManager[Any]:
    """Open the object so that Parquet's footer can be read first: in place if it can seek, else from a copy on disk."""
    try:
        if not obj.name.lower().endswith(COMPRESSION_SUFFIXES):
            stream = obj.open()
            if hasattr(stream, "seek"):
                return pa.PythonFile(_SeekableFile(stream, obj.size), mode="r")
            stream.close()
        return _copy_to_disk(obj)
    except DamagedContentError:
        raise
    except Exception as error:
        raise _ReadError from error


def _copy_to_disk(obj: InputObject) -> AbstractContextManager[Any]:
    with ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        for chunk in decompressed_chunks(obj):
            copy.write(chunk)
        copy.seek(0)
        stack.pop_all()
        return copy


def _columns(contract: Contract, layout: ColumnLayout, batch: pa.RecordBatch) -> list[Columns]:
    count, width = batch.num_rows, len(contract.fields)
    nulls = null_text(count)
    if layout.defect:
        return [_defects(batch, _Reasons({i: [layout.defect] for i in range(count)}), width)]
    reasons = _Reasons()
    fields = [
        nulls if place is None else _field_column(field, batch.column(place), reasons)
        for field, place in zip(contract.fields, layout.places, strict=True)
    ]
    extra = _extra_column(layout, batch)
    for column in (*fields, extra):
        _note_nul(column, reasons)
    arrays = [*fields, extra, nulls, nulls]
    if reasons:
        mask = np.zeros(count, bool)
        mask[list(reasons)] = True
        defects = _defects(batch, reasons, width).arrays
        arrays = [pc.replace_with_mask(a, pa.array(mask), b) for a, b in zip(arrays, defects, strict=True)]
    return [Columns(arrays, count)]


def _field_column(field: Field, values: Array, reasons: _Reasons) -> Array:
    type_ = values.type
    if not pt.is_nested(type_):
        for i in invalid_utf8_indices(values):
            reasons.add(i, f"{field.name}: invalid UTF-8")
        text = as_text(values)
        if field.type.kind != "integer" or not pt.is_decimal(type_):
            return text
        plain: Array = pc.replace_substring_regex(text, r"\.0+$", "")  # the point of a decimal never marks thousands
        return plain
    if field.type.kind == "list" and (pt.is_list(type_) or pt.is_large_list(type_)) and _is_text(type_.value_type):
        return pa.array([_list_json(i, field, value, reasons) for i, value in enumerate(values)], pa.string())
    expected = {"list": "an array of texts", "string": "text"}.get(field.type.kind, "a single value")
    for i in true_indices(values.is_valid()):
        reasons.add(i, f"{field.name}: expected {expected}, got a nested value")
    return null_text(len(values))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pt.is_string(type_) or pt.is_large_string(type_))


def _list_json(i: int, field: Field, value: Scalar, reasons: _Reasons) -> str | None:
    if not value.is_valid:
        return None
    try:
        items = value.as_py()
    except UnicodeDecodeError:
        reasons.add(i, f"{field.name}: invalid UTF-8")
        return None
    if None in items:
        reasons.add(i, f"{field.name}: expected an array of texts, got one that holds null")
        return None
    if any("\0" in item for item in items):
        reasons.add(i, NUL)
        return None
    return json_text.dump(items)


def _extra_column(layout: ColumnLayout, batch: pa.RecordBatch) -> Array:
    columns = [(name, batch.column(place)) for place, name in layout.extras]
    columns = [(name, column) for name, column in columns if column.null_count < len(column)]
    if not columns:
        return null_text(batch.num_rows)
    names = [name for name, _ in columns]
    rows = zip(*(as_json(column) for _, column in columns), strict=True)
    return pa.array([_object_json(names, row) for row in rows], pa.string())


def _object_json(names: list[str], values: tuple[Value, ...]) -> str | None:
    members = Pairs((name, value) for name, value in zip(names, values, strict=True) if value is not None)
    return json_text.dump(members) if members else None


def _note_nul(column: Array, reasons: _Reasons) -> None:
    data = column.buffers()[2]
    if data is None or b"\0" not in memoryview(data).tobytes():
        return
    for i, text in enumerate(column.to_pylist()):
        if text is not None and "\0" in text and NUL not in reasons.get(i, ()):
            reasons.add(i, NUL)


def _defects(batch: pa.RecordBatch, reasons: _Reasons, width: int) -> Columns:
    """Make defects of the rows that have reasons, in order, each with the row as JSON for its text."""
    indices = sorted(reasons)
    part = batch.take(pa.array(indices, pa.int64()))
    rows = zip(*(as_json(column) for column in part.columns), strict=True)
    texts = [escape_nul(json_text.dump(Pairs(zip(batch.schema.names, row, strict=True)))) for row in rows]
    return columns_of([Defect("; ".join(reasons[i]), text) for i, text in zip(indices, texts, strict=True)], width)
