"""Run a stream's silver SQL over valid rows in memory."""

from collections.abc import Collection
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse.contracts.columns import ROW_MARKER
from lakehouse.contracts.sql import quote
from lakehouse.engine.connection import describe


def enrich(cursor: duckdb.DuckDBPyConnection, sql: str, valid: pa.Table, passed: Collection[str]) -> pa.Table:
    """Run a stream's silver SQL over these rows.

    DuckDB returns only the columns that the SQL computes. Those that it passes through, `passed`, are here already, and
    taking them out of DuckDB again would cost more than all the rest.
    """
    if not passed:
        cursor.register("valid", valid)
        return cursor.execute(sql).to_arrow_table()
    cursor.register("valid", valid.append_column(ROW_MARKER, pa.array(np.arange(len(valid)))))
    names = [name for name, _ in describe(cursor, sql)]
    select = ", ".join(quote(name) for name in names if name not in passed)
    computed = cursor.execute(f"select {select} from ({sql.strip().rstrip(';')}\n)").to_arrow_table()
    places = np.asarray(computed.column(ROW_MARKER))
    if len(places) != len(valid) or (places != np.arange(len(valid))).any():
        valid = valid.take(pa.array(places))
    columns: dict[str, Any] = {
        name: (valid if name in passed else computed).column(name) for name in names if name != ROW_MARKER
    }
    return pa.table(columns)
