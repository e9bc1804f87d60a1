"""Features follow what the lake holds now: rows that were withdrawn, erased, rolled back or blocked are not known at any time."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from lakehouse.errors import ContractError, ParameterError
from lakehouse.maintenance.erase import erase_rows
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.withdrawal import withdraw_objects
from lakehouse.serving.features.requests import read_entities
from lakehouse.serving.features.training_set import features, known_features
from lakehouse.serving.query.linked_tail import LakeWithTail
from lakehouse_tests.pipeline.own import Own, noon, payment

DAY = date(2025, 6, 2)
EVENING = datetime(2025, 6, 2, 20, tzinfo=UTC)


def _transactions(own: Own, at: datetime = EVENING, account: str = "a") -> Any:
    entities = read_entities([{"account_id": account, "time": at}])
    table = known_features(own.lake, LakeWithTail(own.lake, {}), entities, [f"{own.name}.transactions_1d"])
    return table.column(f"{own.name}.transactions_1d")[0].as_py()


def _land(own: Own, *keys: str, hour: int = 12, **fields: Any) -> str:
    at = datetime(2025, 6, 2, hour, tzinfo=UTC)
    return own.land([payment(key, at, **fields) for key in keys], at)


@pytest.fixture
def own(make_stream: Callable[..., Own]) -> Own:
    return make_stream()


def test_withdrawn_object_is_not_known(own: Own) -> None:
    _land(own, "1", "2")
    mistake = _land(own, "1", "3", hour=13)
    own.refresh_realtime("2025-06-02-12:00", "2025-06-02-13:00")
    own.bronze()
    own.clean(DAY)
    assert _transactions(own) == 3
    withdraw_objects(own.lake, own.stream, [mistake])
    assert _transactions(own) == 2
    own.clean(DAY)
    assert _transactions(own) == 2


def test_erased_account_has_nulls(own: Own) -> None:
    _land(own, "1", "2")
    _land(own, "3", account_id="b")
    own.refresh_realtime("2025-06-02-12:00")
    own.bronze()
    own.clean(DAY)
    erase_rows(own.lake, Subject(own.stream, {"account_id": "a"}))
    own.clean(DAY)
    assert [_transactions(own), _transactions(own, account="b")] == [None, 1]


def test_rolled_back_silver_does_not_matter(own: Own) -> None:
    _land(own, "1")
    own.bronze()
    own.clean(DAY)
    _land(own, "2", hour=13)
    own.bronze()
    own.clean(DAY)
    table = own.lake.tables.load(f"silver.{own.name}")
    first = table.metadata.snapshots[0].snapshot_id
    table.manage_snapshots().rollback_to_snapshot(first).commit()
    assert own.counts("silver") == {DAY: 1}
    assert _transactions(own) == 2


def test_rows_of_blocked_objects_are_not_known(own: Own) -> None:
    _land(own, "1", "2")
    bad = [payment(f"x{n}", noon(DAY), status="lost") for n in range(4)]
    own.land([payment("3", noon(DAY)), *bad], datetime(2025, 6, 2, 13, tzinfo=UTC))
    own.refresh_realtime("2025-06-02-12:00", "2025-06-02-13:00")
    own.bronze()
    own.clean(DAY)
    assert own.counts("silver") == {DAY: 2}
    assert _transactions(own) == 2


def test_day_whose_objects_are_all_blocked_has_what_silver_keeps(
    make_stream: Callable[..., Own], tmp_path: Any
) -> None:
    own = make_stream()
    bad = [payment(f"x{n}", noon(DAY), status="lost") for n in range(2)]
    own.land([payment("1", noon(DAY)), *bad], noon(DAY))
    own.bronze()
    own.clean(DAY)
    assert own.counts("silver") == {}
    assert _transactions(own) is None


def test_silver_sql_that_drops_fields_is_refused_while_realtime_has_rows(own: Own) -> None:
    _land(own, "1")
    own.bronze()
    silver = own.stream.folder / "silver.sql"
    silver.write_text(silver.read_text().replace("valid.*,", "valid.* replace (upper(valid.currency) as currency),"))
    assert _transactions(own) == 1
    own.refresh_realtime("2025-06-02-12:00")
    with pytest.raises(ContractError, match=r"silver.sql: features at a point in time need each field as it arrived"):
        _transactions(own)


def test_time_whose_days_were_dropped_is_refused(make_stream: Callable[..., Own]) -> None:
    own = make_stream(
        edit=lambda text: text.replace(
            "slaProperties:", "slaProperties:\n  - {property: retention, value: 60, unit: d, element: silver}"
        )
    )
    with pytest.raises(ParameterError, match="need rows of the 30 days before, but its contract keeps silver since"):
        _transactions(own)


def test_many_different_times_of_other_sql_are_refused(make_stream: Callable[..., Own]) -> None:
    own = make_stream("orders")
    rows = [{"customer_id": "c", "time": EVENING + timedelta(minutes=n)} for n in range(101)]
    with pytest.raises(ParameterError, match="at most 100 different times at once"):
        features(rows, [f"{own.name}.paid_1d"], lake=own.lake)
    assert features(rows, [f"{own.name}.changes_1d"], lake=own.lake).num_rows == 101  # needs no window of silver.sql
    assert features(rows[:2], [f"{own.name}.paid_1d"], lake=own.lake).column(2).to_pylist() == [None, None]


UTC_DAY = pd.Timestamp("2025-06-02", tz="UTC")
PAIR = pd.Series([UTC_DAY, pd.NaT])


@pytest.mark.parametrize(
    ("entities", "says"),
    [
        (pd.DataFrame({"account_id": ["a"], "time": [pd.Timestamp("2025-06-02")]}), "have no time zone"),
        (pd.DataFrame({"account_id": ["a", "b"], "time": PAIR}), "Row 2: time is missing"),
        (pd.DataFrame({"account_id": ["a"], "time": [float("nan")]}), "Row 1: time is missing"),
        (pd.DataFrame({"account_id": [float("nan")], "time": [UTC_DAY]}), "Row 1: account_id is missing"),
        ([{"account_id": "a", "time": DAY}], "Row 1: time is datetime.date"),
        ([{"account_id": "a", "time": float("nan")}], "Row 1: time is NaN"),
        ([{"account_id": "a", "time": 1717326000}], "Row 1: time is 1717326000, which is no time"),
        ([{"account_id": "a", "time": "2025-06-02T00:00:00Z"}, {"account_id": "a"}], "Row 2: time is missing"),
        ([{"account_id": 1.5, "time": "now"}], "has floats such as 1.5, but the entities are texts"),
        (pa.table({"time": pa.array([], pa.timestamp("us", "UTC"))}), "There is no column 'account_id'"),
        ("a", "can't be read as a table"),
        (7, "are no table and no rows"),
    ],
)
def test_wrong_entities_are_refused(own: Own, entities: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        features(entities, [f"{own.name}.transactions_1d"], lake=own.lake)


def test_rows_and_columns_are_returned_as_they_are(own: Own) -> None:
    _land(own, "1")
    own.bronze()
    times = [
        "2025-06-02T22:00+02:00",
        "1900-01-01T00:00Z",
        "2025-06-02T20:00Z",
        "2025-06-02T20:00Z",
        "2200-01-01T00:00Z",
    ]
    frame = pd.DataFrame(
        {
            "label": [1, 2, 3, 4, 5],
            "account_id": ["a", "a", "b", "a", "a"],
            "time": pd.to_datetime(times, utc=True, format="mixed"),
        }
    )
    name = f"{own.name}.transactions_30d"
    table = features(frame, [name], lake=own.lake)
    assert table.column_names == ["label", "account_id", "time", name]
    assert table.column("label").to_pylist() == [1, 2, 3, 4, 5]
    assert table.column(name).to_pylist() == [1, None, None, 1, None]
    assert features(pa.table(table.drop_columns([name]).slice(0, 0)), [name], lake=own.lake).num_rows == 0
