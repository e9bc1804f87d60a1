"""Tables and frames as events: Arrow, pandas, Polars and DuckDB relations, by the Arrow PyCapsule interface."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lakehouse.errors import UnreadableSourceError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 5_000
"""Rows that are converted at a time."""


def is_table(events: object) -> bool:
    """Return whether these are columns: anything that gives an Arrow stream or array."""
    return hasattr(events, "__arrow_c_stream__") or hasattr(events, "__arrow_c_array__")


def table_events(table: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table or frame as events. Raises UnreadableSourceError for columns that Arrow can't hold."""
    for batch in _reader(table):
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from batch_events(batch.slice(start, BATCH_ROWS))


def batch_events(batch: "pa.RecordBatch") -> list[dict[str, Any]]:
    """Return the rows of a record batch as events.

    Times become ISO 8601 text with all their digits, in UTC with a Z if they have a zone. float32 becomes the shortest text
    that reads as the same number. Bytes must be UTF-8.
    """
    import pyarrow as pa

    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            columns.append(_column(column))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UnreadableSourceError(f"Column {field.name!r} can't be sent: {error}.") from error
    names = batch.schema.names
    if len(set(names)) != len(names):
        raise UnreadableSourceError(f"Two columns have one name: {', '.join(names)}.")
    return pa.RecordBatch.from_arrays(columns, names=names).to_pylist(maps_as_pydicts="strict")


def _reader(table: Any) -> "pa.RecordBatchReader":
    import pyarrow as pa

    try:
        if type(table).__module__.partition(".")[0] == "pandas":
            return _pandas_table(table).to_reader()
        if not hasattr(table, "__arrow_c_stream__"):
            table = pa.table(table)
        return pa.RecordBatchReader.from_stream(table)
    except (ValueError, TypeError, NotImplementedError) as error:  # Arrow's errors are among them
        raise UnreadableSourceError(f"The frame has a column that Arrow can't hold: {error}.") from error


def _pandas_table(frame: Any) -> "pa.Table":
    """Convert a pandas frame; NaN is a missing value there. Named levels of its index are columns, others are left out."""
    import pyarrow as pa

    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index([name for name in frame.index.names if name is not None])
    return pa.Table.from_pandas(frame, preserve_index=False)


def _column(column: "pa.Array[Any]") -> "pa.Array[Any]":
    """Convert a column to types whose Python values are exact: nanoseconds, zones and decimals become text."""
    for leaf in (_in_utc, _as_text):
        target = _converted(column.type, leaf)
        if target != column.type:
            column = column.cast(target)
    return column


def _converted(kind: "pa.DataType", leaf: "Callable[[pa.DataType], pa.DataType]") -> "pa.DataType":
    """Return a type with each type in it replaced by `leaf`; dictionaries become their values."""
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_dictionary(kind):
        return _converted(kind.value_type, leaf)
    if pt.is_large_list(kind):
        return pa.large_list(_converted(kind.value_type, leaf))
    if pt.is_list(kind) or pt.is_fixed_size_list(kind) or pt.is_list_view(kind) or pt.is_large_list_view(kind):
        return pa.list_(_converted(kind.value_type, leaf))
    if pt.is_map(kind):
        return pa.map_(_converted(kind.key_type, leaf), _converted(kind.item_type, leaf))
    if pt.is_struct(kind):
        return pa.struct([field.with_type(_converted(field.type, leaf)) for field in kind])
    return leaf(kind)


def _in_utc(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    return pa.timestamp(kind.unit, "UTC") if pa.types.is_timestamp(kind) and kind.tz else kind


def _as_text(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa
    import pyarrow.types as pt

    is_bytes = (
        pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind)
    )
    is_short = pt.is_float16(kind) or pt.is_float32(kind)
    is_text = pt.is_temporal(kind) and not pt.is_duration(kind) and not pt.is_interval(kind)
    return pa.string() if is_bytes or is_short or is_text or pt.is_decimal(kind) else kind
