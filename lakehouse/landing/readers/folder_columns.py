"""Give rows the columns that the folders of their object name. See `landing.partition_folders` for those columns."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import literal, quote, raw_sql
from lakehouse.landing.readers.arrow import one_array
from lakehouse.landing.readers.header import column_layout
from lakehouse.landing.readers.json_batch import shared_database
from lakehouse.landing.readers.rows import DEFECT, EXTRA, RAW


def add_folder_columns(
    contract: Contract, columns: Sequence[tuple[str, str]], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Fill the fields that rows lack from these columns, and keep unknown ones in `_extra`. Defects stay as they are.

    A row that lacks a field which several folders name becomes a defect, because it does not say which value is meant.
    """
    layout = column_layout(contract, [name for name, _ in columns])
    values = [value for _, value in columns]
    fields = {contract.fields[i].name: values[place] for i, place in enumerate(layout.places) if place is not None}
    extras = {name: values[place] for place, name in layout.extras}
    repeated = _repeated_fields(contract, columns)
    for batch in batches:
        batch = _refuse_repeated(contract, repeated, batch) if repeated else batch
        is_readable = pc.is_null(batch.column(DEFECT))
        for name, value in fields.items():
            column = batch.column(name)
            is_missing = pc.and_(is_readable, pc.is_null(column))
            batch = _replace(batch, name, pc.if_else(is_missing, value, column))
        if extras:
            extra = batch.column(EXTRA)
            batch = _replace(batch, EXTRA, pc.if_else(is_readable, _with_members(extra, extras), extra))
        yield batch


def _repeated_fields(contract: Contract, columns: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the fields that several columns stand for, each with the reason that rows without it are refused for."""
    values: dict[str, list[str]] = {}
    for name, value in columns:
        places = column_layout(contract, [name]).places
        for field, place in zip(contract.fields, places, strict=True):
            if place is not None:
                values.setdefault(field.name, []).append(value)
    return {
        name: f"folders give {name} several values: {', '.join(given)}"
        for name, given in values.items()
        if len(given) > 1
    }


def _refuse_repeated(contract: Contract, repeated: Mapping[str, str], batch: pa.RecordBatch) -> pa.RecordBatch:
    """Make defects of the readable rows that lack one of these fields."""
    reasons = ", ".join(f"case when {quote(name)} is null then {literal(text)} end" for name, text in repeated.items())
    with shared_database(os.getpid()).cursor() as cursor:
        cursor.register("batch", pa.Table.from_batches([batch]))
        judged = cursor.execute(f"""
            select case when {DEFECT} is null then concat_ws('; ', {reasons}) else '' end as reason, {raw_sql(contract)} as raw
            from batch""").to_arrow_table()
    reason, raw = (one_array(judged.column(name)) for name in ("reason", "raw"))
    is_refused: Any = pc.not_equal(reason, pa.scalar(""))
    for name in (*(field.name for field in contract.fields), EXTRA):
        batch = _replace(batch, name, pc.if_else(is_refused, None, batch.column(name)))
    batch = _replace(batch, RAW, pc.if_else(is_refused, raw, batch.column(RAW)))
    return _replace(batch, DEFECT, pc.if_else(is_refused, reason, batch.column(DEFECT)))


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
