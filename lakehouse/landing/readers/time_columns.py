"""Read an event time that stands in several columns, such as a date and a time of day."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute

from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.landing.readers.rows import Columns


def with_time_columns(contract: Contract) -> Contract:
    """Return the contract of rows as they are in files: with a text for each part of the event time that is no field."""
    known = {name.lower() for field in contract.fields for name in (field.name, field.source)}
    parts = [name for name in contract.dialect.time_columns if name.lower() not in known]
    if not parts:
        return contract
    return replace(contract, fields=(*contract.fields, *(Field(name, FieldType("string"), name) for name in parts)))


def join_time_columns(contract: Contract, columns: Columns) -> Columns:
    """Make the event time of its parts where it is empty, and drop the parts that are no fields of the contract.

    A part that is missing leaves a blank, so that a date without its time of day is no time.
    """
    if not contract.dialect.time_columns:
        return columns
    pc: Any = pa.compute
    fields = with_time_columns(contract).fields
    place = {name.lower(): i for i, field in enumerate(fields) for name in (field.source, field.name)}
    at = place[contract.event_time.lower()]
    parts = [place[name.lower()] for name in contract.dialect.time_columns]
    texts = [pc.fill_null(columns.arrays[part], "") for part in parts]
    # The event time's own column may be one of the parts. Then it is a whole time where all others are empty.
    others: Any = pc.binary_join_element_wise(
        *(text for part, text in zip(parts, texts, strict=True) if part != at), ""
    )
    is_whole: Any = pc.is_valid(columns.arrays[at])
    if at in parts:
        is_whole = pc.equal(others, "")
    joined: Any = pc.binary_join_element_wise(*texts, " ")
    joined = pc.if_else(pc.equal(others, ""), pa.scalar(None, pa.string()), joined)
    arrays = list(columns.arrays)
    arrays[at] = pc.if_else(is_whole, arrays[at], joined)
    width = len(contract.fields)
    return Columns([*arrays[:width], *arrays[len(fields) :]], columns.count)
