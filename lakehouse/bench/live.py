"""`bench live`: today's numbers over HTTP while events arrive, beside the same SQL by hand over the unified view.

The lake holds a week of every stream. Each probe of the comparison asks for both in one statement, which must agree.
"""

import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus

import httpx

from lakehouse.bench import freshness, load_generator
from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.bench.query import arriving_at, fill, latencies, serving_at
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import bind
from lakehouse.landing.keys import hour_partition
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.pipeline.view_names import live_daily
from lakehouse.sources.simulation import Simulator

STREAM = "retail"
DAYS = 7
REACH_MS = 100
COUNT = f"select sum(transactions)::bigint as n from {live_daily(freshness.STREAM)}"


def measure(seconds: float = 8.0, rows: int = 200_000, rate: int = 10_000) -> Iterator[Figure]:
    """Yield the figures, each of `seconds`, on lakes of its own."""
    spawn = multiprocessing.get_context("spawn")
    with own_lake() as lake, ProcessPoolExecutor(1, spawn) as generator:
        today, stream = fill(lake, rows, DAYS)[-1], lake.stream(STREAM)
        for name in lake.streams:
            _open_today(lake, lake.stream(name), rows // DAYS)
        with serving_at(lake) as url, arriving_at(lake.streams.values(), url, rate) as arrived:
            where = f"where dt = date '{today}'"
            paths = {
                "the named query daily_metrics": f"/v1/queries/daily_metrics?stream={STREAM}&days=7",
                "a metric of the page": f"/v1/overview/metrics/{STREAM}/net_revenue?first={today}&last={today}",
            }
            requests = {name: load_generator.get(url + path) for name, path in paths.items()}
            requests["the live view in SQL"] = _query(url, f"from {live_daily(STREAM)} {where}")
            for name, request in requests.items():
                yield from latencies("live", generator, url, name, [request], seconds, REACH_MS)
            by_hand = _query(url, _by_hand(stream, where))
            name = "gold.sql by hand over the unified view"
            yield from latencies("live", generator, url, name, [by_hand], seconds, None, clients=(1,))
            yield _differing(stream, url, where, seconds)
            yield figure("live", "events that arrived meanwhile", arrived(), "events/s", asked=rate)
    yield from freshness.measure(seconds, rate, bench="live", count=COUNT)


def _open_today(lake: Lake, stream: Stream, rows: int) -> None:
    """Close every day of a stream, then put more events of today into realtime alone."""
    now = datetime.now(UTC)
    ingest_days(lake, stream, [now.date()])  # records that bronze has what realtime has
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    land(
        lake.objects,
        stream.name,
        Simulator(stream.contract, stream.simulate, 3).batch(rows, midnight, now).lines,
        now=now,
    )
    ingest_hours(lake, stream, [hour_partition(now)])


def _by_hand(stream: Stream, where: str) -> str:
    return bind(stream.sql("gold"), {"silver": f"select * from serving.unified_{stream.name} {where}"})


def _query(url: str, sql: str) -> bytes:
    return load_generator.request(f"{url}/v1/query", json.dumps({"sql": sql}).encode(), content_type="application/json")


def _differing(stream: Stream, url: str, where: str, seconds: float) -> Figure:
    """Count the probes at which live gold is not what its SQL gives over the unified view."""
    sql = f"""with model as ({_by_hand(stream, where)}), live as (from {live_daily(stream.name)} {where})
        select count(*) as n from ((from live except from model) union all (from model except from live))"""
    probes, differing = 0, 0
    end = time.perf_counter() + seconds
    with httpx.Client(base_url=url, timeout=60) as client:
        while not probes or time.perf_counter() < end:
            answer = client.post("/v1/query", json={"sql": sql})
            if answer.status_code != HTTPStatus.OK:
                raise AssertionError(answer.text)
            probes, differing = probes + 1, differing + (answer.json()["rows"][0]["n"] > 0)
    return figure(
        "live", "probes at which it differs from gold.sql over the unified view", differing, "probes", 0, of=probes
    )
