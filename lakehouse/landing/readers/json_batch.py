"""Read many JSON lines as rows at once: DuckDB reads the clean ones, `json_event` the others one by one."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.sql import literal
from lakehouse.landing.readers.arrow import Array, null_text, one_array, true_indices
from lakehouse.landing.readers.defects import Defect
from lakehouse.landing.readers.json_event import EventParser
from lakehouse.landing.readers.rows import Columns, Row, columns_of
from lakehouse.landing.readers.time_columns import join_time_columns, with_time_columns


class BatchParser:
    """Parse batches of lines of one contract. Safe to use from several threads."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._fields = with_time_columns(contract).fields
        self._event_parser = EventParser(with_time_columns(contract))
        self._sql = _sql(self._fields)

    def parse(self, lines: Array, defects: Mapping[int, Defect]) -> Columns:
        """Parse lines that are not blank, with or without their line ends. `defects` are known ones by line index."""
        with shared_database(os.getpid()).cursor() as cursor:
            cursor.register("lines", pa.table({"line": lines}))
            table = cursor.execute(self._sql).to_arrow_table().combine_chunks()
        is_clean, *values = (one_array(column) for column in table.columns)
        nulls = null_text(len(lines))
        arrays = [*values, nulls, nulls, nulls]
        if not pc.all(is_clean).as_py():
            needs_care = pc.invert(is_clean)
            rows = [self._row(i, lines, defects) for i in true_indices(needs_care)]
            careful = columns_of(rows, len(self._fields)).arrays
            arrays = [pc.replace_with_mask(a, needs_care, b) for a, b in zip(arrays, careful, strict=True)]
        return join_time_columns(self._contract, Columns(arrays, len(lines)))

    def _row(self, i: int, lines: Array, defects: Mapping[int, Defect]) -> Row:
        return defects.get(i) or self._event_parser.parse(lines[i].as_py().rstrip("\r\n"))


@cache
def shared_database(_process_id: int) -> duckdb.DuckDBPyConnection:
    """Share one database in a process, because opening one takes longer than reading a small object."""
    return open_in_memory(memory_limit="1GB")


def _sql(fields: Sequence[Field]) -> str:
    """Build the query over `lines(line)`: whether a line is clean, then its fields, which are right if it is clean.

    DuckDB's parser takes more than JSON (NaN, a trailing comma) and reads numbers as doubles. Lines where that could
    matter are not clean, and neither are lines with unknown or repeated keys.
    """
    names = list(dict.fromkeys(name for field in fields for name in (field.name, field.source)))
    place = {name: i for i, name in enumerate(names, 1)}
    paths = "[" + ", ".join(map(_path, names)) + "]"
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
    list_count(t) as known_keys,
    {members}
  from member
)
select
  coalesce(keys > 0 and keys = known_keys
    and {conditions}, false) as clean,
  {values}
from scalar
"""


def _path(name: str, rest: str = "") -> str:
    """Write the SQL of the JSON path of a member, whatever its name holds."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return literal(f'$."{escaped}"{rest}')


def _conditions(field: Field, place: dict[str, int]) -> list[str]:
    """Build the conditions under which a line is clean in this field, which may come under its name or its source."""
    names = list(dict.fromkeys((field.name, field.source)))
    conditions = [_condition(field, name, place[name]) for name in names]
    if len(names) > 1:
        conditions.append(f"(t{place[names[0]]} is null or t{place[names[1]]} is null)")
    return conditions


def _condition(field: Field, name: str, i: int) -> str:
    absent = f"when 'NULL' then true else t{i} is null end"
    if field.type.kind == "string":
        return f"case t{i} when 'VARCHAR' then true {absent}"
    if field.type.kind == "list":
        others = f"list_filter(json_type(line, {_path(name, '[*]')}), lambda item: item <> 'VARCHAR')"
        return f"case t{i} when 'ARRAY' then len({others}) = 0 {absent}"
    member = json.dumps(name, ensure_ascii=False)
    # A double is exactly as written if the line contains its text. Its last character tells it from NaN and Infinity.
    written = " or ".join(
        f"contains(line, {literal(f'{member}:{blank}')} || v{i} || '{end}')"
        for blank in (" ", "")
        for end in (",", "}")
    )
    return (
        f"case t{i} when 'VARCHAR' then true when 'UBIGINT' then true when 'BOOLEAN' then true"
        f" when 'DOUBLE' then right(v{i}, 1) between '0' and '9' and ({written})"
        f" when 'BIGINT' then v{i} <> '0' {absent}"
    )


def _value(field: Field, place: dict[str, int]) -> str:
    values = [f"v{place[name]}" for name in dict.fromkeys((field.name, field.source))]
    return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
