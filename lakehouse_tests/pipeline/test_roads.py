"""An event is the same row whatever road it took: a file, a request, a record, or quarantine and back."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.cli.rejected_rows import read_rows, write_rows
from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.sql import clean_sql, day_sql, raw_sql
from lakehouse.landing.readers import InputObject, bronze_batches
from lakehouse.pipeline.quarantine import RejectedRow, event_line
from lakehouse.sources.http.framing import as_lines
from lakehouse.sources.http.replay import rows_as_lines
from lakehouse.sources.kinesis.records import as_lines as kinesis_lines
from lakehouse_tests.contracts.lines import STREAMS
from lakehouse_tests.nightly import more_at_night

EXAMPLES = more_at_night(3, 500)
"""Few, of several events each."""

DATABASE = duckdb.connect()

ARRIVED = datetime(2025, 11, 20, 14, 15, 16, tzinfo=UTC)
EVENT_TIMES = st.datetimes(datetime(2011, 1, 1), datetime(2025, 11, 20))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
EXTRAS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=5,
)

Event = dict[str, Any]
Road = Callable[[Contract, list[Event], Path], bytes]


def values(contract: Contract, field: Field) -> st.SearchStrategy[Any]:
    """Return valid values of a field."""
    if field.enum:
        return st.sampled_from(field.enum)
    if field.pattern is not None:
        return st.sampled_from(["EUR", "USD"])
    match field.type.kind:
        case "timestamp":
            return EVENT_TIMES.map(lambda time: time.isoformat() + "Z")
        case "integer":
            return st.integers(0, 2**63 - 1)
        case "double":
            return st.floats(0, allow_nan=False, allow_infinity=False)
        case "decimal":
            limit = 10 ** (field.type.precision - field.type.scale) - 1
            places = field.type.scale
            return st.decimals(1, limit, allow_nan=False, places=places).map(lambda number: f"{number:f}")
        case "boolean":
            return st.booleans()
        case "list":
            return st.lists(TEXTS | st.just(""), max_size=3)
        case _:
            return TEXTS


@st.composite
def events(draw: st.DrawFn, contract: Contract) -> Event:
    """A valid event: fields of the contract under their names at the source, and others."""
    known = {name for field in contract.fields for name in (field.name, field.source)}
    event: Event = draw(st.dictionaries(TEXTS.filter(lambda name: name not in known), EXTRAS, max_size=2))
    for field in contract.fields:
        needed = field.required or field.key
        value = draw(values(contract, field) if needed else st.none() | values(contract, field))
        if value is not None or draw(st.booleans()):
            event[field.source] = value
    return event


def rows(contract: Contract, content: bytes, name: str = "rows.ndjson") -> list[Any]:
    """Return the typed rows that the readers and the contract make of a file, with unknown fields."""
    source = InputObject(name, ARRIVED, len(content), lambda: BytesIO(content))
    with DATABASE.cursor() as database:
        database.execute("set timezone = 'UTC'")
        database.register("landed", pa.Table.from_batches(bronze_batches(contract, [source])))
        database.execute(
            f"create or replace temp table bronze as select *, {day_sql(contract, 'landed')} as dt from landed"
        )
        fields = ", ".join(f'c."{field.name}"' for field in contract.fields)
        return database.execute(
            f"select {fields}, _valid, _extra from ({clean_sql(contract)}) as c join bronze using (_row) order by _row"
        ).fetchall()


def rejected(contract: Contract, content: bytes) -> list[RejectedRow]:
    """Return the rows of a file as quarantine would hold them."""
    source = InputObject("rows.ndjson", ARRIVED, len(content), lambda: BytesIO(content))
    with DATABASE.cursor() as database:
        database.register("landed", pa.Table.from_batches(bronze_batches(contract, [source])))
        raws = database.execute(f"select {raw_sql(contract)} from landed order by _row").fetchall()
    place = partial(RejectedRow, date(2025, 11, 20), reasons=["any"], object="incoming/x", arrived_at=ARRIVED)
    return [place(raw=raw, row=number) for number, (raw,) in enumerate(raws, 1)]


def ndjson(events: list[Event]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def sent(contract: Contract, events: list[Event], folder: Path) -> bytes:
    """Return what `lakehouse send` posts of a file."""
    file = folder / "sent.ndjson"
    file.write_bytes(ndjson(events))
    return b"".join(rows_as_lines(contract, file))


def replayed(form: str, contract: Contract, events: list[Event], folder: Path) -> bytes:
    """Return what `lakehouse quarantine replay` lands of what `lakehouse quarantine export` wrote."""
    file = folder / f"rows.{form}"
    written = StringIO(newline="")
    write_rows(STREAMS[contract.stream], rejected(contract, ndjson(events)), written, form)
    file.write_text(written.getvalue(), encoding="utf-8", newline="")
    return b"".join(event_line(fields) + b"\n" for _, fields in read_rows(STREAMS[contract.stream], file))


ROADS: dict[str, Road] = {
    "array over HTTP": lambda _contract, events, _: as_lines(json.dumps(events, indent=1).encode(), lines_only=False),
    "objects over HTTP": lambda _contract, events, _: as_lines(
        "\n".join(json.dumps(event, indent=1) for event in events).encode(), lines_only=False
    ),
    "NDJSON over HTTP": lambda _contract, events, _: as_lines(ndjson(events), lines_only=True),
    "Kinesis": lambda _contract, events, _: kinesis_lines(
        {"Data": json.dumps(event, indent=1).encode()} for event in events
    ),
    "send": sent,
    "quarantine and back": partial(replayed, "ndjson"),
    "send after quarantine": lambda contract, events, folder: sent(
        contract, [json.loads(line) for line in replayed("ndjson", contract, events, folder).splitlines()], folder
    ),
}


@pytest.mark.parametrize("stream", sorted(STREAMS))
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(st.data())
def test_event_is_the_same_row_on_every_road(stream: str, tmp_path: Path, data: st.DataObject) -> None:
    contract = STREAMS[stream].contract
    drawn = data.draw(st.lists(events(contract), min_size=1, max_size=8))
    direct = _comparable(rows(contract, ndjson(drawn)))
    assert all(row[-2] for row in direct), "the events are valid"
    for name, road in ROADS.items():
        assert _comparable(rows(contract, road(contract, drawn, tmp_path))) == direct, name
    by_csv = _comparable(rows(contract, replayed("csv", contract, drawn, tmp_path)))
    assert [row[:-1] for row in by_csv] == [row[:-1] for row in direct], "CSV has the contract's fields alone"


def _comparable(found: list[Any]) -> list[Any]:
    return [(*row[:-1], None if row[-1] is None else json.loads(row[-1])) for row in found]


def test_numbers_of_unknown_fields_keep_their_digits_in_an_export(tmp_path: Path) -> None:
    contract, line = STREAMS["social"].contract, b'{"event_id":"a","big":123456789012345678901234567890.10,"e":1E+2}\n'
    written = StringIO()
    write_rows(STREAMS["social"], rejected(contract, line), written, "ndjson")
    (tmp_path / "rows.ndjson").write_text(written.getvalue())
    ((_, fields),) = read_rows(STREAMS["social"], tmp_path / "rows.ndjson")
    assert b'"e":1E+2' in event_line(fields) or b"100" in event_line(fields)


def test_text_that_is_no_list_is_exported_as_it_is() -> None:
    contract = STREAMS["social"].contract
    for text in ("x, y", "[1", '{"a":1}', ""):
        written = StringIO()
        write_rows(STREAMS["social"], rejected(contract, ndjson([{"hashtags": text}])), written, "ndjson")
        assert json.loads(written.getvalue()).get("_raw") or json.loads(written.getvalue())["hashtags"] == text
