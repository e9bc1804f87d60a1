"""A day that is cut into pieces gives the rows and ledgers of the day as a whole."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contracts.streams import discover
from lakehouse.engine import reader
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.workers import LocalWorkers
from lakehouse.pipeline import cleaning, cut_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import SilverResult
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.pipeline.landings import examples
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

DAY = date(2025, 11, 20)
FAULTS = Faults(late=0.05, repeated=0.2, invalid=0.02, malformed=0.02)


@contextmanager
def cut(pieces: int, *, rows_in_memory: int = 1) -> Iterator[None]:
    """Cut days of more than `rows_in_memory` rows into pieces, on this machine too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "MAX_ROWS_IN_MEMORY", rows_in_memory)
        patch.setattr(cut_days, "CHUNK_ROWS", 50)
        patch.setattr(LocalWorkers, "pieces", lambda self, wanted: pieces)
        patch.setattr(LocalWorkers, "split", lambda self, parts, size=None: [[part] for part in parts])
        yield


def _rows(own: Own) -> dict[str, list[tuple[Any, ...]]]:
    with own.lake.engine.cursor() as cursor:
        return {
            layer: cursor.execute(
                f"from {scan_sql(own.lake.tables.load(f'{layer}.{own.name}'))} order by all"
            ).fetchall()
            for layer in ("silver", "quarantine")
        }


def _left_over(own: Own) -> list[str]:
    """List what is left of pieces in storage."""
    location = own.lake.tables.load(f"bronze.{own.name}").location()
    objects = Objects.from_url(own.lake.connection, location)
    return [info.key for info in objects.list(f"{object_key(location)}/") if "shuffle" in info.key]


@pytest.mark.parametrize("base", sorted(discover()))
def test_day_in_pieces_has_the_rows_and_ledgers_of_the_whole_day(make_stream: Callable[..., Own], base: str) -> None:
    own = make_stream(base)
    stream = discover()[base]
    for number in range(3):
        simulator = Simulator(stream.contract, stream.simulate, number % 2, FAULTS)
        start = datetime(2025, 11, 20, 3 + number, tzinfo=UTC)
        own.land(simulator.batch(120, start, start + timedelta(hours=1)).lines.splitlines(), start + timedelta(hours=1))
    own.bronze()
    days = sorted(own.counts("bronze"))
    whole, rows = own.clean(*days).ledgers, _rows(own)
    assert min(whole[DAY].duplicates, whole[DAY].quarantined, whole[DAY].silver) > 0
    for pieces, rows_in_memory in ((2, 100), (8, 1)):
        with cut(pieces, rows_in_memory=rows_in_memory):
            assert own.clean(*days).ledgers == whole
        assert _rows(own) == rows
    assert _left_over(own) == []


KEYS = st.sampled_from("abcdefgh")
PAYMENTS = st.lists(
    st.lists(st.tuples(KEYS, st.sampled_from(["1.00", "2.00", "-1", "x"])), min_size=1, max_size=8),
    min_size=1,
    max_size=3,
)


@examples(5, nightly=40)
@given(objects=PAYMENTS, pieces=st.sampled_from([2, 3]), share=st.sampled_from([0, 0.6]))
def test_rows_are_conserved_in_pieces_whatever_is_repeated_or_wrong(
    make_stream: Callable[..., Own], objects: list[list[tuple[str, str]]], pieces: int, share: float
) -> None:
    own = make_stream(edit=threshold(share))
    at = noon(DAY)
    for number, events in enumerate(objects):
        own.land([payment(key, at, amount=amount) for key, amount in events], at + timedelta(minutes=number))
    own.bronze()
    whole, rows = own.clean(DAY).ledgers, _rows(own)
    with cut(pieces):
        assert own.clean(DAY).ledgers == whole
    assert _rows(own) == rows
    assert all(ledger.conserved for ledger in whole.values())


def test_day_that_the_gate_may_block_stays_whole(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0.9))
    own.land([payment("a", noon(DAY)), payment("b", noon(DAY), amount="-1")], noon(DAY))
    own.bronze()
    with cut(4, rows_in_memory=0):
        assert own.clean(DAY).blocked == [DAY]


def test_day_whose_sql_needs_all_rows_stays_whole_and_says_so(
    make_stream: Callable[..., Own], caplog: pytest.LogCaptureFixture
) -> None:
    own = make_stream()
    (own.stream.folder / "silver.sql").write_text(
        "select valid.*, row_number() over (order by event_id) as hour, 1 as day_of_week, 'low' as risk_band from valid"
    )
    own.land([payment(key, noon(DAY)) for key in "abc"], noon(DAY))
    own.bronze()
    with cut(2), caplog.at_level(logging.WARNING):
        cleaned: SilverResult = own.clean(DAY)
    assert cleaned.ledgers[DAY].silver == 3
    assert f"{own.name} has 3 rows on {DAY}, which stay whole because its silver.sql can't be cut" in caplog.text


def test_pieces_are_removed_where_a_task_fails(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream()
    own.land([payment(key, noon(DAY)) for key in "abc"], noon(DAY))
    own.bronze()
    own.clean(DAY)
    before = own.lake.tables.load(f"silver.{own.name}").current_snapshot()

    def fail(*_: object) -> None:
        assert _left_over(own) != []
        raise OSError("no disk")

    monkeypatch.setattr(cut_days, "clean_group", fail)
    with cut(2), pytest.raises(OSError, match="no disk"):
        own.clean(DAY)
    assert own.lake.tables.load(f"silver.{own.name}").current_snapshot() == before
    assert _left_over(own) == []


def test_large_file_is_cut_by_row_groups(make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch) -> None:
    own = make_stream()
    own.land([payment(str(number), noon(DAY)) for number in range(500)], noon(DAY))
    own.bronze()
    rows = own.clean(DAY) and _rows(own)
    monkeypatch.setattr(reader, "MAX_FILE_BYTES_IN_MEMORY", 0)
    with cut(3, rows_in_memory=100):
        own.clean(DAY)
    assert _rows(own) == rows


def test_pieces_on_spark_have_the_rows_of_this_machine(
    make_stream: Callable[..., Own], sail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make_stream("clickstream")
    stream = discover()["clickstream"]
    start = datetime(2025, 11, 20, 3, tzinfo=UTC)
    until = start + timedelta(hours=1)
    own.land(Simulator(stream.contract, stream.simulate, 1, FAULTS).batch(200, start, until).lines.splitlines(), until)
    own.bronze()
    days = sorted(own.counts("bronze"))
    whole, rows = own.clean(*days).ledgers, _rows(own)
    _use_spark(own.lake, sail)
    monkeypatch.setattr(cut_days, "PIECE_ROWS", 50)
    with cut(1):  # this machine would leave days whole
        assert own.clean(*days).ledgers == whole
    assert _rows(own) == rows
    assert _left_over(own) == []


def _use_spark(lake: Lake, address: str) -> None:
    lake.settings = lake.settings.model_copy(update={"engine": "spark", "spark": address, "spark_from_mb": 0})
