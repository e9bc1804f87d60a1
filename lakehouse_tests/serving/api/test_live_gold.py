"""Live gold over HTTP has what the unified view has, at every moment and in every way to ask."""

import json
from datetime import UTC, date, datetime

import httpx

from lakehouse_tests.waiting import until

SAME = """
with model as (
  select dt, platform, action, count(*) as events, count(distinct author_id) as authors
  from serving.unified_social
  group by all
)
select
  (select count(*) from (from serving.live_social_daily except from model)) as extra,
  (select count(*) from (from model except from serving.live_social_daily)) as missing,
  (select sum(events)::bigint from serving.live_social_daily where dt = $day::date and platform = 'live') as events,
  (
    select sum(metric_value)::bigint
    from serving.live_daily_metrics
    where stream = 'social' and date_key = $day::date and metric_name = 'events' and dimensions['platform'] = 'live'
  ) as in_metrics
"""


def _post(api: httpx.Client, number: int, now: datetime) -> None:
    event = {
        "event_time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "post_id": "p",
        "author_id": "a",
        "platform": "live",
        "action": "like",
    }
    lines = "\n".join(json.dumps(event | {"event_id": f"live-{number}-{n}"}) for n in range(50))
    api.post(
        "/v1/streams/social/events", content=lines, headers={"content-type": "application/x-ndjson"}
    ).raise_for_status()


def _row(api: httpx.Client, day: date) -> dict[str, int | None]:
    response = api.post("/v1/query", json={"sql": SAME, "params": {"day": str(day)}})
    assert response.status_code == 200, response.text
    return dict(response.json()["rows"][0])


def test_live_gold_equals_its_sql_over_the_unified_view_while_events_arrive(api: httpx.Client) -> None:
    now = datetime.now(UTC)
    day = now.date()
    seen = 0
    for number in range(3):
        _post(api, number, now)
        while seen < 50 * (number + 1):
            row = _row(api, day)
            assert (row["extra"], row["missing"]) == (0, 0)
            assert row["in_metrics"] == row["events"]
            assert (row["events"] or 0) >= seen
            seen = row["events"] or 0
    assert seen == 150

    named = api.get("/v1/queries/daily_metrics", params={"stream": "social", "metric": "events"}).json()["rows"]
    assert sum(row["metric_value"] for row in named if row["dimensions"]["platform"] == "live") == 150
    measures = api.get("/v1/overview/metrics/social").json()
    assert (measures["last_day"], [measure["name"] for measure in measures["measures"]]) == (
        str(day),
        ["authors", "events"],
    )
    span = {"first": str(day), "last": str(day), "by": "platform"}
    series = api.get("/v1/overview/metrics/social/events", params=span).json()["series"]
    assert [one["values"] for one in series if one["name"] == "live"] == [[150.0]]
    assert {"serving.live_social_daily", "serving.live_daily_metrics"} <= {
        table["name"] for table in api.get("/v1/tables").json()
    }


def test_metrics_of_the_overview_have_another_version_when_events_land(api: httpx.Client) -> None:
    before = api.get("/v1/overview").json()["versions"]["metrics"]
    _post(api, 9, datetime.now(UTC))
    until(lambda: api.get("/v1/overview").json()["versions"]["metrics"] != before)
