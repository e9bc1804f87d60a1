"""Read the series of a stream's measure: rows of silver, or of the unified view, by the columns that tell series apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse.anomalies.extremes import Floats
from lakehouse.contracts.model import AnomalyRule
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream

Series = tuple[str | None, ...]
"""The values, as text, of the columns that tell series apart."""

MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """The rows of one series, in order."""

    series: Series
    times: Floats
    """Seconds since 1970."""
    values: Floats
    keys: "pa.Array[Any]"
    """The key of each row, as text."""


def series_sql(stream: Stream, events: str) -> str:
    """Generate the SELECT of the rows of a stream's series, in order: those whose measure is a finite number.

    `events` is a SELECT with the columns of silver.
    """
    rule = rule_of(stream)
    by = ",\n  ".join(f"{quote(name)}::varchar as {quote(name)}" for name in rule.by)
    key = " || ' ' || ".join(f"coalesce({quote(name)}::varchar, '')" for name in stream.contract.key)
    measure = f"{quote(rule.measure)}::double"
    return f"""select
  {by},
  epoch_us({quote(stream.contract.event_time)}) as at_us,
  {measure} as measured,
  {key} as event_key
from ({events})
where isfinite({measure})
order by
  {", ".join(map(str, range(1, len(rule.by) + 1)))},
  at_us,
  event_key"""


def read_series(cursor: duckdb.DuckDBPyConnection, stream: Stream, events: str) -> Iterator[SeriesRows]:
    """Yield the series of these events, a SELECT with the columns of silver."""
    yield from split_series(rule_of(stream), cursor.execute(series_sql(stream, events)).to_arrow_table())


def split_series(rule: AnomalyRule, table: pa.Table) -> Iterator[SeriesRows]:
    """Split the rows of `series_sql` into series."""
    if not table.num_rows:
        return
    columns = [table.column(name).combine_chunks() for name in rule.by]
    codes = np.stack([_codes(column) for column in columns])
    starts = np.flatnonzero(np.append(True, (codes[:, 1:] != codes[:, :-1]).any(axis=0)))
    times = table.column("at_us").to_numpy() / MICROSECONDS
    values = table.column("measured").to_numpy()
    keys = table.column("event_key").combine_chunks()
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), table.num_rows], strict=True):
        series = tuple(column[start].as_py() for column in columns)
        yield SeriesRows(series, times[start:end], values[start:end], keys[start:end])


def _codes(column: "pa.Array[Any]") -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    encoded = column.dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def rule_of(stream: Stream) -> AnomalyRule:
    """Return the stream's rule of anomalies, which it must have."""
    rule = stream.contract.anomaly
    assert rule is not None
    return rule


def name_of(series: Sequence[str | None]) -> str:
    """Write a series as text."""
    return ", ".join(value or "" for value in series)
