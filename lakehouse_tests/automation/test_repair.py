"""Recomputing days loses no row where the quality gate blocks one of them."""

from collections.abc import Callable
from datetime import date

import pytest

from lakehouse.assets import resources
from lakehouse.auditing.audit import audit
from lakehouse.automation.repair import recompute
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline import quarantine
from lakehouse_tests.pipeline.own import Own, make_stream, noon, payment, shared_lake

__all__ = ["make_stream", "shared_lake"]  # fixtures

ARRIVED, GOOD, BAD = date(2021, 5, 9), date(2019, 5, 4), date(2019, 5, 5)


def test_replay_keeps_every_row_of_blocked_days_in_a_table(
    make_stream: Callable[..., Own], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = "customProperties:\n  - property: historyStart\n    value: "
    own = make_stream(edit=lambda text: text.replace("customProperties:", f"{start}2020-01-01"))
    monkeypatch.setattr(resources, "_lake", lambda: own.lake)
    good = [payment(f"good{n}", noon(GOOD)) for n in range(5)]
    bad = [payment(f"bad{n}", noon(BAD), status="lost" if n else "settled") for n in range(5)]
    own.land([*good, *bad], noon(ARRIVED))
    own.bronze()
    own.clean(ARRIVED)
    assert own.counts("quarantine") == {ARRIVED: 10}
    file = own.stream.folder / "contract.odcs.yaml"
    file.write_text(file.read_text().replace("2020-01-01", "2010-01-01"))
    stream = Stream(own.name, own.stream.folder, load_contract(own.stream.folder))
    own.lake.streams = {own.name: stream}
    days = quarantine.move_redated_rows(own.lake, stream)
    assert recompute(own.lake, stream, days) == [BAD]
    assert (own.counts("silver"), own.counts("quarantine")) == ({GOOD: 5}, {BAD: 5})
    assert Own(own.lake, stream).stale() == []
    assert audit(own.lake, [stream]).findings == []
