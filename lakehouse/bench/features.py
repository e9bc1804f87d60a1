"""`bench features`: features at a point in time for many entities and times, beside DuckDB's ASOF join over daily features.

The lake holds 40 days of readings. Some arrive late, some twice, and each half-hour's arrive together. The counterpart takes
the features of the day before, as the daily table has them now: it lacks the day itself, and has what arrived late.
"""

import json
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.bench import load_generator
from lakehouse.bench.figures import Figure, figure, own_lake, timed
from lakehouse.bench.query import latencies, serving_at
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.features import write_features
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import clean_days
from lakehouse.serving.features.training_set import features
from lakehouse.sources.simulation import Faults, Simulator

STREAM = "iot"
ROWS = 1_000_000
REQUESTS = 10_000_000
REACH_SECONDS, REACH_MS = 60, 20
DAYS, ASKED_DAYS = 40, 9
"""Days of the lake, and the last of them at which features are asked for, whose windows of 30 days it holds."""

FAULTS = Faults(late=0.02, repeated=0.01)
NAMES = ("readings_1d", "readings_7d", "avg_temperature_7d", "max_vibration_30d", "min_battery_30d")
FEATURES = [f"{STREAM}.{name}" for name in NAMES]
BODIES = 200
"""Different requests over HTTP, sent in turn."""

SLOT = timedelta(minutes=30)


def measure(requests: int = REQUESTS, rows: int = ROWS, seconds: float = 4.0) -> Iterator[Figure]:
    """Yield the seconds of `requests` entity-times beside the counterpart, and the latency of one over HTTP."""
    spawn = multiprocessing.get_context("spawn")
    with own_lake(streams=[STREAM]) as lake, ProcessPoolExecutor(1, spawn) as generator:
        stream = lake.stream(STREAM)
        days = _fill(lake, stream, rows)
        entities = _entities(lake, stream, requests, days[-1])
        reach = REACH_SECONDS if requests >= REQUESTS else None
        table, spent = timed(lambda: features(entities, FEATURES, lake=lake))
        assert table.num_rows == requests
        yield figure(
            "features", f"{requests:,} entity-times", spent.seconds, "s", reach, cpu_s=round(spent.cpu, 1), rows=rows
        )
        daily, spent = timed(lambda: _from_daily(lake, stream, entities))
        differing = _differing(table, daily)
        label = "the same by an ASOF join over the daily features"
        yield figure("features", label, spent.seconds, "s", differing_share=round(differing, 3))
        with serving_at(lake) as url:
            for name, number in (("one entity now", 1), ("100 entities at a time", 100)):
                bodies = [_body(url, entities, number) for _ in range(BODIES)]
                target = REACH_MS if number == 1 else None
                yield from latencies("features", generator, url, name, bodies, seconds, target, clients=(1,))


def _fill(lake: Lake, stream: Stream, rows: int) -> list[date]:
    """Land and compute readings of DAYS days up to yesterday, each half-hour's as one object. Returns the days."""
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, simulator = end - timedelta(days=DAYS), Simulator(stream.contract, stream.simulate, 1, FAULTS)
    slots = int((end - start) / SLOT)
    for number in range(slots):
        since = start + number * SLOT
        batch = simulator.batch(rows // slots, since, since + SLOT)
        land(lake.objects, stream.name, batch.lines, now=since + SLOT)
    days = [(start + timedelta(days=number)).date() for number in range(DAYS + 1)]
    ingest_days(lake, stream, days)
    clean_days(lake, stream, days)
    write_features(lake, stream, days[-ASKED_DAYS - 2 :])
    return days[:-1]


def _entities(lake: Lake, stream: Stream, requests: int, last: date) -> pa.Table:
    """Draw entities that there are, at times of the last days."""
    with lake.engine.cursor() as cursor:
        scan = scan_sql(lake.tables.load(f"silver.{stream.name}"))
        ids = cursor.execute(f"select distinct device_id from {scan} order by all").to_arrow_table().column(0)
    rng = np.random.default_rng(2)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    first = int((end - timedelta(days=ASKED_DAYS)).timestamp() * 1e6)
    times: Any = rng.integers(first, int(end.timestamp() * 1e6), requests)
    places: Any = pa.array(rng.integers(0, len(ids), requests))
    columns: dict[str, Any] = {
        "device_id": ids.take(places),
        "time": pa.array(times).cast(pa.timestamp("us", "UTC")),
    }
    return pa.table(columns)


def _from_daily(lake: Lake, stream: Stream, entities: pa.Table) -> pa.Table:
    """Take the features of the day before each time, as the daily table has them now."""
    scan = scan_sql(lake.tables.load(f"serving.{stream.name}_features"))
    columns = ", ".join(f'daily.{name} as "{STREAM}.{name}"' for name in NAMES)
    with lake.engine.cursor() as cursor:
        cursor.register("entities", entities)
        cursor.execute("set asof_loop_join_threshold = 0")  # its default makes this a nested loop, ten times as slow
        return cursor.execute(
            f"""select entities.device_id, entities."time", {columns}
            from entities
            asof left join (from {scan}) as daily
              on entities.device_id = daily.device_id and entities."time"::date > daily.dt"""
        ).to_arrow_table()


def _differing(table: pa.Table, daily: pa.Table) -> float:
    """Return the share of entity-times whose largest value in 30 days the daily table gives otherwise."""
    order: Any = [("device_id", "ascending"), ("time", "ascending")]
    name = f"{STREAM}.max_vibration_30d"
    columns: list[Any] = [rows.sort_by(order).column(name) for rows in (table, daily)]
    ours, theirs = (pc.fill_null(column, -1.0) for column in columns)
    share: Any = pc.mean(pc.not_equal(ours, theirs)).as_py()
    return float(share)


def _body(url: str, entities: pa.Table, number: int) -> bytes:
    chosen = random.sample(range(entities.num_rows), min(number, entities.num_rows))
    rows = [{"device_id": str(entities.column("device_id")[place]), "time": "now"} for place in chosen]
    body = json.dumps({"features": FEATURES, "entities": rows}).encode()
    return load_generator.request(f"{url}/v1/features", body, content_type="application/json")
