"""Give rows the columns that the folders of their object name. See `landing.partition_folders` for those columns."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.model import Contract
from lakehouse.landing.readers.header import column_layout
from lakehouse.landing.readers.rows import DEFECT, EXTRA


def add_folder_columns(
    contract: Contract, columns: Sequence[tuple[str, str]], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Fill the fields that rows lack from these columns, and keep unknown ones in `_extra`. Defects stay as they are."""
    layout = column_layout(contract, [name for name, _ in columns])
    values = [value for _, value in columns]
    fields = {contract.fields[i].name: values[place] for i, place in enumerate(layout.places) if place is not None}
    extras = {name: values[place] for place, name in layout.extras}
    for batch in batches:
        is_readable = pc.is_null(batch.column(DEFECT))
        for name, value in fields.items():
            column = batch.column(name)
            is_missing = pc.and_(is_readable, pc.is_null(column))
            batch = _replace(batch, name, pc.if_else(is_missing, value, column))
        if extras:
            extra = batch.column(EXTRA)
            batch = _replace(batch, EXTRA, pc.if_else(is_readable, _with_members(extra, extras), extra))
        yield batch


def _replace(batch: pa.RecordBatch, name: str, column: Any) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), column)


def _with_members(extra: Any, members: dict[str, str]) -> Any:
    """Put members before those of each row's JSON object, except where it names them itself."""
    for name, value in reversed(members.items()):
        key = json.dumps(name, ensure_ascii=False) + ":"
        member = "{" + key + json.dumps(value, ensure_ascii=False)
        merged: Any = pc.binary_join_element_wise(member, pc.utf8_slice_codeunits(extra, 1), ",")
        extra = pc.coalesce(pc.if_else(pc.match_substring(extra, key), extra, merged), member + "}")
    return extra
