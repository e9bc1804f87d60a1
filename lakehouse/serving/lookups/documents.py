"""Look-ups as JSON: what answers a request for somebody, made of many rows at once by DuckDB, when they are copied.

To make it of one row, when somebody asks, takes longer than all the rest of the answer. Values are as `values.to_json`
gives them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.contracts.sql import literal, quote
from lakehouse.serving.lookups.index import SCHEMA
from lakehouse.serving.lookups.paths import CUSTOMERS

MEMORY = "512MB"


class Documents:
    """Makes the JSON of a look-up's rows."""

    def __init__(self, name: str) -> None:
        """`name` is the look-up's."""
        self._name = name
        # One thread keeps rows in their order, and leaves the others to who waits for an answer.
        self._database = duckdb.connect(config={"threads": 1, "memory_limit": MEMORY})

    def of(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The id and the JSON of each of these rows, in their order; the columns are those of SCHEMA."""
        self._database.register("found", pa.Table.from_batches([rows]))
        answers = self._database.sql(_answers_sql(self._name, rows.schema.names))
        made = answers.project(f"id, to_json({_fields(zip(answers.columns, answers.types, strict=True))})::varchar")
        table: Any = made.to_arrow_table()
        columns = [table.column(number).combine_chunks().cast(field.type) for number, field in enumerate(SCHEMA)]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def close(self) -> None:
        """Give the memory back."""
        self._database.close()


def _answers_sql(name: str, columns: Sequence[str]) -> str:
    """A SELECT of what answers, from rows of the look-up that are called `found`."""
    if name == CUSTOMERS:
        return Path(__file__).with_name("customer_document.sql").read_text()
    features = ", ".join(f"{quote(column)}: {quote(column)}" for column in columns if column not in ("id", "dt"))
    return f"select {literal(name)} as stream, id, dt as as_of, {{{features}}} as features from found"


def _fields(named: Iterable[tuple[str, Any]], of: str = "", depth: int = 0) -> str:
    """A struct of these columns, or of these fields of the struct `of`, as JSON holds them."""
    before = f"{of}." if of else ""
    return "{" + ", ".join(f"{quote(name)}: {_plain(before + quote(name), kind, depth)}" for name, kind in named) + "}"


def _plain(value: str, kind: Any, depth: int) -> str:
    """The SQL of a value as `to_json` has to be given it; `depth` counts the lambdas around it."""
    match kind.id:
        case "decimal":
            # Of a type without digits before the point DuckDB writes none.
            return f"regexp_replace({value}::varchar, '^(-?)[.]', '\\10.')"
        case "double" | "float":
            return f"case when isfinite({value}) then {value} end"
        case "timestamp":
            return _moment(value)
        case "timestamp with time zone":
            return _moment(f"timezone('UTC', {value})")
        case "blob":
            return f"lower(hex({value}))"
        case "list":
            item = f"item_{depth}"
            return f"list_transform({value}, lambda {item}: {_plain(item, kind.children[0][1], depth + 1)})"
        case "map":
            item = f"item_{depth}"
            held = _plain(f"{item}.value", kind.children[1][1], depth + 1)
            entry = f"{{key: {item}.key::varchar, value: {held}}}"
            return f"map_from_entries(list_transform(map_entries({value}), lambda {item}: {entry}))"
        case "struct":
            return f"case when {value} is not null then {_fields(kind.children, value, depth)} end"
        case _:
            return value


def _moment(value: str) -> str:
    """ISO 8601 with a Z, with six digits of a fraction where there is one, as Python has it."""
    whole, split = literal("%Y-%m-%dT%H:%M:%SZ"), literal("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f"case when epoch_us({value}) % 1000000 = 0 then strftime({value}, {whole}) else strftime({value}, {split}) end"
    )
