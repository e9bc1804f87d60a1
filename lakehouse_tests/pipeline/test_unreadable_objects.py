"""A landing object that storage can't return is left out and named, and all others of its day are ingested."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.auditing import file_reads
from lakehouse.auditing.audit import audit
from lakehouse.auditing.data_files import LANDING_CHECK
from lakehouse.errors import UnreadableObjectError
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.shared import open_landing
from lakehouse.pipeline import ingest
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = datetime.now(UTC).date() - timedelta(days=2)
HOUR = f"{DAY}-12:00"


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes storage answer with an error for some landing objects, as for a flipped byte."""

    @contextmanager
    def damaged(*keys: str) -> Iterator[None]:
        def opened(objects: Any, obj: LandingObject, *_: Any) -> Any:
            if obj.key in keys:
                raise UnreadableObjectError(f"Can't read {obj.key}: storage answers with an error for this object")
            return open_landing(objects, obj)

        with monkeypatch.context() as patch:
            patch.setattr(ingest, "open_landing", opened)
            patch.setattr(
                file_reads, "_failure", lambda *given: f"Can't read {given[-1]}" if given[-1] in keys else None
            )
            yield

    return damaged


def _land(own: Own) -> tuple[str, str]:
    """Land two objects of two rows each, the second of which is damaged."""
    first, second = (
        own.land([payment(f"{name}{n}", noon(DAY)) for n in range(2)], noon(DAY)) for name in ("good", "bad")
    )
    return first, second


def _keys(own: Own, layer: str) -> set[str]:
    return {key for (key,) in own.ask(f"select distinct _object from {{{layer}}}")}


def test_objects_beside_an_unreadable_one_are_ingested(own: Own, damage: Callable[..., Any]) -> None:
    good, bad = _land(own)
    with damage(bad):
        results = own.bronze(), own.refresh_realtime(HOUR)
        assert [list(result.unreadable) for result in results] == [[bad], [bad]]
        assert [sum(counts["objects"] for counts in result.partitions.values()) for result in results] == [1, 1]
        assert (_keys(own, "bronze"), _keys(own, "realtime")) == ({good}, {good})
        again = own.bronze()
        assert (list(again.unreadable), again.snapshot_id) == ([bad], None), "nothing else is left to ingest"
        wrong = audit(own.lake, [own.stream]).wrong
        assert [(finding.layer, finding.check, bad in finding.detail) for finding in wrong] == [
            ("landing", LANDING_CHECK, True)
        ]
    assert (own.bronze().unreadable, own.refresh_realtime(HOUR).unreadable) == ({}, {})
    own.clean(DAY)
    own.below(DAY)
    assert (_keys(own, "bronze"), _keys(own, "realtime")) == ({good, bad}, {good, bad})
    assert audit(own.lake, [own.stream]).findings == []


def test_replaced_partitions_keep_the_rows_of_unreadable_objects(own: Own, damage: Callable[..., Any]) -> None:
    good, bad = _land(own)
    own.bronze()
    own.refresh_realtime(HOUR)
    rows = {layer: sorted(own.ask(f"select * from {{{layer}}}"), key=str) for layer in ("bronze", "realtime")}
    with damage(bad):
        assert list(own.bronze(DAY, replace=True).unreadable) == [bad]
        assert list(own.refresh_realtime(HOUR, replace=True).unreadable) == [bad]
    assert {layer: sorted(own.ask(f"select * from {{{layer}}}"), key=str) for layer in rows} == rows
    with damage(good, bad):
        own.bronze(DAY, replace=True)
        own.refresh_realtime(HOUR, replace=True)
    assert {layer: sorted(own.ask(f"select * from {{{layer}}}"), key=str) for layer in rows} == rows
