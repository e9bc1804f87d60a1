"""`GET /v1/trace/{table}` answers with the origins of rows, for keys that may read the table and of its streams alone."""

from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from lakehouse.http import api_keys as keys
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings
from lakehouse_tests.pipeline.own import Own, land_together
from lakehouse_tests.waiting import until

DAY = date(2021, 4, 7)
LIKE = {"event_time": f"{DAY}T11:00:00Z", "post_id": "p", "author_id": "a", "platform": "traced", "action": "like"}
LIKES = [{"event_id": f"trace-{number}", **LIKE} for number in (1, 2)]
SALES = {"invoice_no": "536365"}


def _trace(api: httpx.Client, table: str, where: str, key: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return api.get(f"/v1/trace/{table}", params={"where": where}, headers=headers)


@pytest.fixture(scope="module")
def place(shared_lake: Lake) -> str:
    """The key of a landing object of social, a section of a shared one, whose rows gold has."""
    lake = Lake(shared_lake.settings, shared_lake.connection)
    social, retail = (Own(lake, lake.stream(name)) for name in ("social", "retail"))
    lake.bootstrap([social.stream, retail.stream])
    key, _ = land_together([(social, LIKES), (retail, [SALES])], datetime(2021, 4, 7, 12, tzinfo=UTC))
    social.bronze(DAY)
    social.clean(DAY)
    social.gold(DAY)
    lake.engine.close()
    return key


def test_number_is_traced_to_its_bytes_also_in_shared_objects(
    api: httpx.Client, settings: Settings, place: str
) -> None:
    where = f"dt = date '{DAY}' and platform = 'traced'"
    until(lambda: _trace(api, "gold.social_daily", where).json()["matched"] == 1, seconds=20)
    answer = _trace(api, "gold.social_daily", where).json()
    assert [(step["source"], step["by_row"], step["stale"]) for step in answer["steps"]] == [
        ("silver.social", True, [])
    ]
    (stream,) = answer["streams"]
    counts = {"landed": 2, "silver": 2, "quarantined": 0, "duplicates": 0}
    assert stream["days"] == [{"day": f"{DAY}", "rows": 2, **counts, "unaccounted": 0, "partition": counts}]
    (landed,) = stream["by_object"]
    assert (landed["object"], landed["rows"], landed["stored_from"]) == (place, 2, 0)
    assert "~retail." in landed["stored_in"]
    rows: list[dict[str, Any]] = stream["rows"]
    assert [(row["row"], row["key"]["event_id"]) for row in rows] == [(1, "trace-1"), (2, "trace-2")]
    assert rows[1]["first_byte"] == rows[0]["bytes"] + 1

    _, alone = keys.create(settings, "social traces", ("query",), ("social",))
    (landed,) = _trace(api, "gold.social_daily", where, alone).json()["streams"][0]["by_object"]
    assert (landed["object"], landed["stored_in"]) == (place, None)
    assert "retail" not in _trace(api, "silver.social", where, alone).text
    for other in ("gold.retail_daily", "gold.daily_metrics", "silver.retail"):
        assert _trace(api, other, "true", alone).status_code == 404
    beyond = _trace(api, "silver.social", "dt in (select dt from silver.retail)", alone)
    assert (beyond.status_code, "silver.retail does not exist" in beyond.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("table", "where", "status"),
    [
        ("gold.nothing", "true", 404),
        ("serving.stream_health", "true", 400),
        ("silver.social", "nope = 1", 400),
        ("silver.social", "true) union all select (1", 400),
        ("silver.social", "dt in (select getenv('HOME'))", 400),
    ],
)
def test_wrong_trace_gets_an_error_that_says_so(api: httpx.Client, table: str, where: str, status: int) -> None:
    answer = _trace(api, table, where)
    assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
