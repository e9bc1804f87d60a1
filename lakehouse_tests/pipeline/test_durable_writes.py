"""An object that others rely on is on disk when its writer returns, so a power cut can't tear it afterwards."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.pipeline import alerts, exports
from lakehouse.pipeline.erasure_log import add_record
from lakehouse.pipeline.quarantine import land_corrections
from lakehouse.pipeline.withdrawal import withdraw_objects
from lakehouse.serving.lookups.publish import refresh_entities
from lakehouse.sources.kinesis.claims import Claim, Claims
from lakehouse.storage import durability
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = datetime.now(UTC).date() - timedelta(days=2)


@pytest.fixture(scope="module")
def own(make_shared_stream: Callable[..., Own]) -> Own:
    """A stream of one day with a rejected row, an alert and features."""
    own = make_shared_stream()
    own.land([payment("valid", noon(DAY), amount="99999.00"), payment("invalid", noon(DAY), amount="much")], noon(DAY))
    own.bronze()
    own.clean(DAY)
    own.below(DAY)
    return own


def _correct(own: Own) -> None:
    place = own.ask("select _object, _row from {quarantine}")[0]
    land_corrections(own.lake, own.stream, [(place, payment("valid too", noon(DAY)))])


def _claim(own: Own) -> None:
    claims = Claims(own.lake.objects, f"sources/kinesis/{own.name}/s-1/shard")
    claims.add(Claim(1, "1", "2", "key", datetime.now(UTC), "reader"))


def _withdraw(own: Own) -> None:
    withdraw_objects(own.lake, own.stream, [own.land([payment("mistake", noon(DAY))], noon(DAY))])


WRITERS: dict[str, Callable[[Own], object]] = {
    "unified": lambda own: exports.export_unified(own.lake, own.stream, [DAY]),
    "dashboard": lambda own: exports.export_dashboard(own.lake, own.stream),
    "features": lambda own: exports.export_features(own.lake, own.stream),
    "alerts": lambda own: alerts._export(own.lake, own.stream, [DAY], {(DAY, "velocity")}),
    "lookup": lambda own: refresh_entities(own.lake, own.stream),
    "correction": _correct,
    "claim": _claim,
    "withdrawal": _withdraw,
    "erasure record": lambda own: add_record(own.lake.objects, own.name, {"account_id": "a"}),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
def test_written_objects_are_synced_when_their_writer_returns(
    own: Own, monkeypatch: pytest.MonkeyPatch, writer: Callable[[Own], object]
) -> None:
    steps: list[str] = []

    def record(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def recorded(*arguments: Any, **named: Any) -> Any:
            try:
                return method(*arguments, **named)
            finally:
                steps.append(name)

        monkeypatch.setattr(owner, name, recorded)

    for owner, name in ((Objects, "put"), (Objects, "put_stream"), (durability._Disk, "_sync_files")):
        record(owner, name)
    writer(own)
    assert {"put", "put_stream"} & {*steps}
    assert steps[-1] == "_sync_files"
