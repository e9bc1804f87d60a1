"""Each layer lets go of what its contract no longer keeps, and nothing that was let go of comes back or takes more with it."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from lakehouse.maintenance.retention import Dropped, apply_retention
from lakehouse.pipeline import exports as serving
from lakehouse.pipeline.bronze import land_days, missed_days
from lakehouse.pipeline.gold import DAILY_METRICS
from lakehouse.pipeline.lineage.refresh import new_files
from lakehouse_tests.pipeline.own import Own, noon, payment, threshold

DAYS = {"landing": 2, "realtime": 2, "bronze": 5, "silver": 5, "gold": 9}


def ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days)


def _kept(text: str) -> str:
    """The contract with the retention above, and a gate that lets everything pass."""
    lines = [line for line in text.splitlines() if "property: retention" not in line]
    at = lines.index("slaProperties:") + 1
    mine = [f"  - {{property: retention, value: {n}, unit: d, element: {layer}}}" for layer, n in DAYS.items()]
    return threshold(0.0)("\n".join([*lines[:at], *mine, *lines[at:]]) + "\n")


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream(edit=_kept)


def _arrive(own: Own, *days: int, event: int | None = None) -> None:
    """An event lands on each of these days ago, dated the same day or as `event` says, and one that is refused."""
    for n in days:
        at = noon(ago(n))
        dated = noon(ago(n if event is None else event))
        good, bad = payment(f"{n}-{event}", dated), payment(f"bad-{n}", dated, amount="-1")
        own.land([good, bad] if event is None else [good], at + timedelta(minutes=0 if event is None else 1))
        own.refresh_realtime(f"{at:%Y-%m-%d-%H}:00")
        own.bronze(ago(n))


def _compute(own: Own, days: Sequence[date]) -> None:
    own.clean(*days)
    own.below(*days)
    serving.export_unified(own.lake, own.stream, days)


def _drop(own: Own, *, dry_run: bool = False) -> dict[str, Dropped]:
    return {one.what: one for one in apply_retention(own.lake, own.stream, dry_run=dry_run)}


def _days(own: Own, name: str, column: str = "dt") -> list[date]:
    return [day for (day,) in own.ask(f"select distinct {column} from {{t}} order by 1", t=name)]


def test_every_layer_keeps_what_its_contract_says_and_no_more(own: Own) -> None:
    name, ages = own.name, (0, 2, 3, 5, 6, 9, 10)
    _arrive(own, *ages)
    _compute(own, [ago(n) for n in ages])
    said = _drop(own, dry_run=True)
    assert own.counts("bronze").total() == 14, "a dry run drops nothing"
    assert _drop(own) == said
    assert own.arrived() == [ago(2), ago(0)]
    assert _days(own, f"realtime.{name}") == [ago(2), ago(0)]
    for layer in ("bronze", "silver", "quarantine"):
        assert _days(own, f"{layer}.{name}") == [ago(5), ago(3), ago(2), ago(0)], layer
    for table in (f"gold.{name}_daily", f"serving.{name}_features"):
        assert _days(own, table) == [ago(n) for n in (9, 6, 5, 3, 2, 0)], table
    # Other tests' streams have their numbers there too, of years ago.
    assert next(day for day in _days(own, DAILY_METRICS, "date_key") if day > ago(60)) == ago(9)
    unified = [info.key.split("dt=")[1][:10] for info in own.lake.objects.list(f"serving/unified/{name}")]
    assert unified == [str(ago(n)) for n in (5, 3, 2, 0)]
    assert own.stale() == []
    assert missed_days(own.lake, own.stream, ago(12), ago(0)) == []
    assert new_files(own.lake, own.stream) == []
    assert _drop(own) == {}, "once is enough"


def test_landing_lets_go_of_nothing_that_bronze_does_not_hold(own: Own) -> None:
    own.land([payment("late", noon(ago(9)))], noon(ago(8)))
    own.drop(b"event_id\n", "held.csv")
    assert _drop(own) == {}
    assert own.arrived() == [ago(8), ago(0)]
    land_days(own.lake, own.stream, [ago(8)])
    assert _drop(own)[f"landing/{own.name}"].files == 1


def test_rows_that_landing_still_has_stay_in_bronze_or_they_would_land_again(own: Own) -> None:
    _arrive(own, 1, event=20)
    assert _days(own, f"bronze.{own.name}") == [ago(20)]
    assert _drop(own) == {}
    assert _days(own, f"bronze.{own.name}") == [ago(20)]
    assert missed_days(own.lake, own.stream, ago(3), ago(0)) == []
    assert own.stale() == [], "silver keeps no day as old"


def test_late_rows_change_nothing_that_was_let_go_of(own: Own) -> None:
    _arrive(own, 6, 4)
    _compute(own, [ago(6), ago(4)])
    before = own.ask("select * from {t} where dt < $$" + str(ago(5)) + "$$", t=f"gold.{own.name}_daily")
    _drop(own)
    _arrive(own, 0, event=6)
    assert own.stale() == [], "the day that was let go of is not computed again from the one row there is"
    assert own.ask("select * from {t} where dt < $$" + str(ago(5)) + "$$", t=f"gold.{own.name}_daily") == before
    assert before != []


def test_features_that_look_back_on_days_that_are_gone_stay_as_they_were(own: Own) -> None:
    _arrive(own, 6, 4)
    _compute(own, [ago(6), ago(4)])
    _drop(own)
    assert serving.feature_days(own.lake, own.stream, [ago(4)]) == []
    assert serving.feature_days(own.lake, own.stream, [ago(3)]) == [ago(3)], "better a part than nothing"


def test_a_run_that_died_halfway_is_finished_by_the_next(own: Own) -> None:
    _arrive(own, 10)
    _compute(own, [ago(10)])
    for done in apply_retention(own.lake, own.stream):
        if done.what == f"gold.{own.name}_daily":
            break
    assert ago(10) in _days(own, DAILY_METRICS, "date_key")
    said = _drop(own)
    assert said[f"{DAILY_METRICS} of {own.name}"].partitions == 1
    assert ago(10) not in _days(own, DAILY_METRICS, "date_key")


def test_who_keeps_all_drops_nothing_but_what_has_landed(make_stream: Callable[..., Own]) -> None:
    own = make_stream()
    _arrive(own, 400)
    assert list(_drop(own)) == [f"landing/{own.name}", f"realtime.{own.name}"]
