"""Many JSON lines as rows at once: DuckDB reads those that are as they should be, `event` the others one by one."""

import os
from collections.abc import Mapping, Sequence
from functools import cache

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.model import Contract, Field
from lakehouse.landing.readers.arrow import Array, no_texts, places, whole
from lakehouse.landing.readers.event import Events
from lakehouse.landing.readers.rows import Columns, Defect, Row, columns_of


class Batches:
    """Reads batches of lines. Safe to use from several threads."""

    def __init__(self, contract: Contract) -> None:
        self._events = Events(contract)
        self._fields = contract.fields
        self._sql = _sql(contract.fields)

    def columns(self, lines: Array, defects: Mapping[int, Defect]) -> Columns:
        """The rows of lines that are not blank, with their line ends or without, save those known to be defects."""
        with _database(os.getpid()).cursor() as cursor:
            cursor.register("lines", pa.table({"line": lines}))
            table = cursor.execute(self._sql).to_arrow_table().combine_chunks()
        arrays = [whole(column) for column in table.columns]
        clean, values = arrays[0], arrays[1:]
        nothing = no_texts(len(lines))
        found = [*values, nothing, nothing, nothing]
        if not pc.all(clean).as_py():
            odd = pc.invert(clean)
            rows = [self._row(i, lines, defects) for i in places(odd)]
            mended = columns_of(rows, len(self._fields))
            found = [pc.replace_with_mask(a, odd, b) for a, b in zip(found, mended.arrays, strict=True)]
        return Columns(found, len(lines))

    def _row(self, i: int, lines: Array, defects: Mapping[int, Defect]) -> Row:
        return defects.get(i) or self._events.row(lines[i].as_py().rstrip("\r\n"))


@cache
def _database(_process: int) -> duckdb.DuckDBPyConnection:
    """One for all readers of a process: to open one takes longer than to read a small object."""
    return duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})


def _sql(fields: Sequence[Field]) -> str:
    """The query over `lines(line)`: whether a line is clean, then its fields, right where it is clean.

    DuckDB's parser takes more than JSON is (NaN, a comma too many) and reads numbers as doubles; lines where that
    could matter are not clean, nor are those with unknown or repeated keys.
    """
    names = list(dict.fromkeys(name for field in fields for name in (field.name, field.source)))
    place = {name: i for i, name in enumerate(names, 1)}
    paths = "[" + ", ".join(f"'$.\"{name}\"'" for name in names) + "]"
    members = ",\n    ".join(f"t[{i}] as t{i}, v[{i}] as v{i}" for i in place.values())
    conditions = "\n    and ".join(condition for field in fields for condition in _conditions(field, place))
    values = ",\n  ".join(f"{_value(field, place)} as f{i}" for i, field in enumerate(fields))
    return f"""
with object as (
  select
    line,
    case when not contains(line, '\\u0000') and not regexp_matches(line, ',[ \\t\\r\\n]*[}}\\]]')
      then try(json_keys(line))
    end as keys
  from lines
), member as (
  select
    line,
    len(keys) as keys,
    case when keys is not null then json_type(line, {paths}) end as t,
    case when keys is not null then json_extract_string(line, {paths}) end as v
  from object
), scalar as (
  select
    line,
    keys,
    list_count(t) as found,
    {members}
  from member
)
select
  coalesce(keys > 0 and keys = found
    and {conditions}, false) as clean,
  {values}
from scalar
"""


def _conditions(field: Field, place: dict[str, int]) -> list[str]:
    names = list(dict.fromkeys((field.name, field.source)))
    found = [_condition(field, name, place[name]) for name in names]
    return found if len(names) == 1 else [*found, f"(t{place[names[0]]} is null or t{place[names[1]]} is null)"]


def _condition(field: Field, name: str, i: int) -> str:
    absent = f"when 'NULL' then true else t{i} is null end"
    if field.type.kind == "string":
        return f"case t{i} when 'VARCHAR' then true {absent}"
    if field.type.kind == "list":
        others = f"list_filter(json_type(line, '$.\"{name}\"[*]'), lambda item: item <> 'VARCHAR')"
        return f"case t{i} when 'ARRAY' then len({others}) = 0 {absent}"
    # A double is as it was written if it is found in the line; its last character tells it from NaN and Infinity.
    written = " or ".join(
        f"contains(line, '\"{name}\":{blank}' || v{i} || '{end}')" for blank in (" ", "") for end in (",", "}")
    )
    return (
        f"case t{i} when 'VARCHAR' then true when 'UBIGINT' then true when 'BOOLEAN' then true"
        f" when 'DOUBLE' then right(v{i}, 1) between '0' and '9' and ({written})"
        f" when 'BIGINT' then v{i} <> '0' {absent}"
    )


def _value(field: Field, place: dict[str, int]) -> str:
    values = [f"v{place[name]}" for name in dict.fromkeys((field.name, field.source))]
    return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
