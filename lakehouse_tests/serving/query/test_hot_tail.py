"""The hot tail: every event is visible soon after it lands, and once after every step: in the tail, realtime or silver."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.landing.keys import LandingObject
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage import realtime_coverage as coverage
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.storage.iceberg.manifests import current_manifests
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.nightly import more_at_night
from lakehouse_tests.pipeline.own import Own, payment
from lakehouse_tests.serving.query.trackers import lake_of
from lakehouse_tests.waiting import until


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


@pytest.fixture
def tracker(own: Own, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[SnapshotTracker]:
    """A tracker of the stream's lake without threads: the test takes each step."""
    monkeypatch.setattr(coverage, "MIN_REALTIME_ROWS", 0)
    tracker = SnapshotTracker(lake_of(own, tmp_path, "silver", "realtime", "bronze"))
    tracker.refresh()
    yield tracker
    tracker.close()


def _ask(own: Own, snapshot: LakeSnapshot, select: str) -> list[tuple[Any, ...]]:
    view = snapshot.views(f"serving.unified_{own.name}")[f"serving.unified_{own.name}"]
    with own.lake.engine.cursor() as cursor:
        return cursor.execute(select.format(unified=f"({view})")).fetchall()


def _keys(own: Own, snapshot: LakeSnapshot) -> list[str]:
    return [key for (key,) in _ask(own, snapshot, "select event_id from {unified} order by event_id")]


def _land(own: Own, *keys: str, at: datetime | None = None, **fields: Any) -> LandingObject:
    at = at or datetime.now(UTC)
    key = own.land([payment(key, at - timedelta(minutes=1), **fields) for key in keys], at)
    info = own.lake.objects.head(key)
    assert info is not None
    return LandingObject(key, own.name, at, info.size)


def _hour(at: datetime) -> str:
    return f"{at:%Y-%m-%d-%H}:00"


def test_landed_rows_are_visible_after_notification_or_listing(own: Own, tracker: SnapshotTracker) -> None:
    view = [f"serving.unified_{own.name}"]
    before = tracker.latest
    after = tracker.ingest([_land(own, "a", "b")])
    assert _keys(own, after) == ["a", "b"]
    assert after.tail_version(view) != before.tail_version(view)
    assert after.table_version(view) == before.table_version(view)
    _land(own, "c")
    assert _keys(own, tracker.catch_up()) == ["a", "b", "c"]
    assert tracker.tail_sizes[own.name].objects == 2
    assert tracker.catch_up() is tracker.latest


def test_tail_rows_equal_realtime_rows(own: Own, tracker: SnapshotTracker) -> None:
    at = datetime.now(UTC)
    own.land([payment("a", at, amount="9007199254740993.01"), payment("b", at, amount="-1"), "garbage"], at)
    everything = "select * exclude (_arrived_at) from {unified}"
    before = _ask(own, tracker.catch_up(), everything)
    own.refresh_realtime(_hour(at))
    assert _ask(own, tracker.refresh(), everything) == before
    assert len(before) == 1


def test_tail_drops_rows_that_realtime_holds(own: Own, tracker: SnapshotTracker) -> None:
    first = _land(own, "a", "b")
    tracker.ingest([first])
    own.refresh_realtime(_hour(first.arrived_at))
    second = _land(own, "c")
    assert _keys(own, tracker.ingest([second])) == ["a", "b", "c"]
    after = tracker.refresh()
    assert _keys(own, after) == ["a", "b", "c"]
    assert (tracker.tail_sizes[own.name].rows, tracker.tail_sizes[own.name].objects) == (1, 1)
    assert _keys(own, tracker.catch_up()) == ["a", "b", "c"]
    assert tracker.tail_sizes[own.name].rows == 1


def test_older_snapshot_stays_readable(own: Own, tracker: SnapshotTracker) -> None:
    landed = _land(own, "a")
    before = tracker.ingest([landed])
    own.refresh_realtime(_hour(landed.arrived_at))
    tracker.refresh()
    tracker.ingest([_land(own, "b")])
    assert _keys(own, before) == ["a"]


def test_latest_arrival_of_a_key_wins_except_over_silver(own: Own, tracker: SnapshotTracker) -> None:
    at = datetime.now(UTC)
    _land(own, "a", at=at - timedelta(seconds=20), merchant="first")
    own.bronze()
    own.clean((at - timedelta(minutes=2)).date(), at.date())
    _land(own, "a", "b", at=at - timedelta(seconds=10), merchant="second")
    own.refresh_realtime(_hour(at), _hour(at - timedelta(seconds=20)))
    _land(own, "a", "b", at=at, merchant="third")
    tracker.refresh()
    now = tracker.catch_up()
    assert _ask(own, now, "select event_id, merchant from {unified} order by all") == [("a", "first"), ("b", "third")]


def test_hours_that_silver_covers_are_not_read(own: Own, tracker: SnapshotTracker) -> None:
    at = datetime.now(UTC)
    before, now = at - timedelta(hours=1), at
    for key, when in (("a", before), ("b", now)):
        _land(own, key, at=when)
        own.refresh_realtime(_hour(when))
    days = {(when - timedelta(minutes=1)).date() for when in (before, now)}
    assert tracker.refresh().hours == {own.name: None}
    own.bronze()
    own.clean(*days)
    covered = tracker.refresh()
    assert covered.hours == {own.name: []}
    _land(own, "c", at=now + timedelta(milliseconds=1))
    own.refresh_realtime(_hour(now))
    opened = tracker.refresh()
    assert opened.hours == {own.name: [f"{now:%Y-%m-%d-%H}"]}
    assert _keys(own, tracker.catch_up()) == ["a", "b", "c"]
    assert _keys(own, covered) == ["a", "b"]


def test_first_snapshot_is_readable_without_coverage(own: Own, tracker: SnapshotTracker, tmp_path: Any) -> None:
    landed = _land(own, "a")
    own.refresh_realtime(_hour(landed.arrived_at))
    own.bronze()
    own.clean((landed.arrived_at - timedelta(minutes=1)).date())
    new = SnapshotTracker(lake_of(own, tmp_path / "new", "silver", "realtime", "bronze"))
    first = new.refresh()
    assert (first.hours, new.refresh_coverage().hours) == ({}, {own.name: []})
    assert new.refresh_coverage() is new.latest
    assert _keys(own, first) == _keys(own, new.latest) == ["a"]
    new.close()


def test_all_hours_are_read_when_coverage_fails(
    own: Own, tracker: SnapshotTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.serving.query.coverage_cache.uncovered_hours", lambda *_: 1 / 0)
    landed = _land(own, "a")
    own.refresh_realtime(_hour(landed.arrived_at))
    assert tracker.refresh().hours == {own.name: None}
    assert _keys(own, tracker.latest) == ["a"]


def test_small_segments_are_merged_and_old_ones_stay_readable(own: Own, tracker: SnapshotTracker) -> None:
    keys = [f"k{number:03}" for number in range(20)]
    for key in keys:
        tracker.ingest([_land(own, key)])
    before = tracker.latest
    after = tracker.catch_up()
    assert len(after.tail[own.name]) < 8 <= len(before.tail[own.name])
    assert _keys(own, after) == _keys(own, before) == keys


def test_full_tail_drops_the_oldest_rows_and_counts_them(own: Own, tmp_path: Any) -> None:
    lake = lake_of(own, tmp_path, "silver", "realtime")
    tracker = SnapshotTracker(lake)
    tracker.refresh()
    tracker.tail._max_bytes = 12_000
    landed = [_land(own, *(f"{number}-{key}" for key in range(100))) for number in range(6)]
    for landing in landed:
        tracker.ingest([landing])
    held = tracker.tail_sizes[own.name]
    assert held.bytes <= 12_000
    assert 0 < held.left_out < 6
    seen = _keys(own, tracker.catch_up())
    assert "5-0" in seen
    assert "0-0" not in seen
    own.refresh_realtime(_hour(landed[0].arrived_at), _hour(landed[-1].arrived_at))
    assert len(_keys(own, tracker.refresh())) == 600
    assert tracker.tail_sizes[own.name].left_out == 0
    tracker.close()


def test_rows_of_deleted_objects_are_dropped(own: Own, tracker: SnapshotTracker) -> None:
    kept, gone = _land(own, "kept"), _land(own, "gone")
    assert _keys(own, tracker.ingest([kept, gone])) == ["gone", "kept"]
    own.lake.objects.delete([gone.key])
    assert _keys(own, tracker.catch_up()) == ["kept"]


def test_new_process_reads_what_realtime_does_not_hold(own: Own, tmp_path: Any) -> None:
    old = _land(own, "old", at=datetime.now(UTC) - timedelta(hours=2))
    own.refresh_realtime(_hour(old.arrived_at))
    _land(own, "older, not taken", at=datetime.now(UTC) - timedelta(hours=2, minutes=1))
    _land(own, "new")
    tracker = SnapshotTracker(lake_of(own, tmp_path, "silver", "realtime"))
    tracker.refresh()
    assert _keys(own, tracker.catch_up(timedelta(hours=3))) == ["new", "old", "older, not taken"]
    assert tracker.tail_sizes[own.name].rows == 2
    tracker.close()


def test_unreadable_objects_hide_no_other_rows(own: Own, tracker: SnapshotTracker) -> None:
    at = datetime.now(UTC)
    folder = f"realtime/{own.name}/year={at:%Y}/month={at:%m}/day={at:%d}/hour={at:%H}"
    own.lake.objects.put(f"{folder}/broken.json.gz", b"\x1f\x8bnothing")
    own.lake.objects.put(f"{folder}/broken.parquet", b"PAR1")
    own.lake.objects.put(f"{folder}/empty.csv", b"event_id\n")
    _land(own, "a")
    tracker.ingest([LandingObject(f"{folder}/not-there.json", own.name, at, 5)])
    assert _keys(own, tracker.catch_up()) == ["a"]
    assert tracker.catch_up() is tracker.latest


@pytest.mark.parametrize("seed", range(more_at_night(1, 10)))
def test_each_event_is_visible_once_after_every_step(own: Own, tracker: SnapshotTracker, seed: int) -> None:
    rng, at = random.Random(seed), datetime.now(UTC)
    landed: list[str] = []
    unreported: list[LandingObject] = []
    for step in range(25):
        match rng.choice(["land", "land", "report", "report", "list", "realtime", "replace", "batch", "look"]):
            case "land":
                new = [f"{step}-{number}" for number in range(rng.randint(1, 4))]
                again = rng.sample(landed, min(len(landed), rng.randint(0, 2)))
                unreported.append(_land(own, *new, *again, at=at + timedelta(milliseconds=step)))
                landed += new
            case "report":
                tracker.ingest([unreported.pop(rng.randrange(len(unreported)))] if unreported else [])
            case "list":
                tracker.catch_up()
            case "realtime":
                own.refresh_realtime(_hour(at))
            case "replace":
                own.refresh_realtime(_hour(at), replace=True)
            case "batch":
                own.bronze()
                own.clean((at - timedelta(minutes=1)).date())
            case "look":
                tracker.refresh()
        seen = _keys(own, tracker.latest)
        assert len(seen) == len(set(seen))
        assert set(seen) <= set(landed)
    tracker.catch_up()
    assert _keys(own, tracker.latest) == sorted(landed)
    own.refresh_realtime(_hour(at))
    assert _keys(own, tracker.refresh()) == sorted(landed)
    assert tracker.tail_sizes[own.name].rows == 0


def test_no_visible_row_is_lost_while_realtime_ingests_it(own: Own, tracker: SnapshotTracker) -> None:
    at, ended, seen_least = datetime.now(UTC), threading.Event(), 0

    def look() -> None:
        while not ended.is_set():
            tracker.refresh()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for step in range(12):
            tracker.ingest([_land(own, f"{step:02}", at=at + timedelta(milliseconds=step))])
            if step % 3 == 0:
                own.refresh_realtime(_hour(at))
            seen = len(_keys(own, tracker.latest))
            assert seen == step + 1 > seen_least
            seen_least = seen
    finally:
        ended.set()
        looking.join()


def test_only_committed_tables_are_loaded_between_full_loads(own: Own, tmp_path: Any) -> None:
    lake = lake_of(own, tmp_path, "silver", "realtime")
    writer = Lake(lake.settings, own.lake.connection)
    tracker = SnapshotTracker(lake)
    tracker.start()
    try:
        asked = []
        load = lake.tables.load
        lake.tables.load = lambda name: asked.append(name) or load(name)  # type: ignore[func-returns-value, method-assign]
        before = tracker.latest
        time.sleep(0.5)
        assert asked == []
        with writer.tables.load(f"silver.{own.name}").transaction() as change:
            change.set_properties(note="committed")
        until(lambda: tracker.latest is not before, 5, pause=0.02)
        assert asked == [f"silver.{own.name}"]
        assert tracker.latest.tables.load(f"silver.{own.name}").properties["note"] == "committed"
        assert tracker.latest.tables.names() == before.tables.names()
    finally:
        tracker.close()


def test_unreadable_realtime_table_holds_up_no_other_stream(make_stream: Callable[..., Own], tmp_path: Any) -> None:
    owns = broken, sound = make_stream(), make_stream()
    lake = lake_of(broken, tmp_path)
    lake.streams = {own.name: own.stream for own in owns}
    lake.tables.names = lambda: [f"{layer}.{name}" for layer in ("silver", "realtime") for name in lake.streams]  # type: ignore[method-assign]
    at = datetime.now(UTC)
    _land(broken, "a", at=at)
    broken.refresh_realtime(_hour(at))
    (manifest,) = current_manifests(broken.lake.tables.load(f"realtime.{broken.name}"))
    Objects.from_url(lake.connection, manifest.manifest_path).put(object_key(manifest.manifest_path), b"damaged")
    tracker = SnapshotTracker(lake)
    try:
        tracker.refresh()
        _land(broken, "b", at=at)
        _land(sound, "b", at=at)
        assert _keys(sound, tracker.catch_up()) == ["b"]
        sound.refresh_realtime(_hour(at))
        assert _keys(sound, tracker.refresh()) == ["b"]
        assert tracker.tail_sizes[sound.name].objects == 0
    finally:
        tracker.close()
