"""`bench query`: named queries and look-ups over HTTP while events arrive, beside the same SQL straight in DuckDB.

The lake holds a week of every stream and a million devices. Load generators are processes of their own.
"""

import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import duckdb

from lakehouse.bench import load_generator
from lakehouse.bench.figures import Figure, figure, own_lake
from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import DuckDB, scan_sql
from lakehouse.landing.keys import hour_partition
from lakehouse.landing.writer import land
from lakehouse.pipeline import gold
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.commits import replace_days
from lakehouse.pipeline.features import write_features
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.realtime_coverage import uncovered_hours
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.pipeline.silver import clean_days
from lakehouse.pipeline.unified_view import create_views_sql, unified_sql, view_names
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.serving.api import server as serving
from lakehouse.serving.lookups import publish as lookups
from lakehouse.serving.query.named_queries import NamedQuery, read_queries
from lakehouse.sources.simulation import Simulator

ROWS = 200_000
"""Rows of each stream in the week."""

DAYS = 7
BATCH = 25_000
ENTITIES = 1_000_000
LOOKUP_IDS = 4_000
"""Different ids that are looked up, in turn."""

CLIENTS = (1, 16)
EVENTS_A_SECOND = 10_000
EVENTS = 1_000
"""Events in a request."""

BODIES = 20
"""Different requests for each stream, sent in turn."""

CONNECTIONS = 16
WARM_SECONDS = 1.0
"""At most, before each figure."""

QUERY_MS, LOOKUP_MS = 100, 20
DIRECT_RUNS = 5
"""Runs of each query straight in DuckDB."""

PARAMETERS = {"daily_metrics": {"stream": "retail"}}
"""Required parameters of named queries."""


def measure(
    seconds: float = 4.0, rows: int = ROWS, entities: int = ENTITIES, rate: int = EVENTS_A_SECOND, days: int = DAYS
) -> Iterator[Figure]:
    """Yield the figures, each of `seconds`, on a lake of its own with `days` days of `rows` rows per stream."""
    spawn = multiprocessing.get_context("spawn")
    with own_lake() as lake, ProcessPoolExecutor(1, spawn) as generator:
        started = time.perf_counter()
        dates = fill(lake, rows, days)
        customers = _customers(lake, entities, dates[-1])
        yield figure("query", "lake made in", time.perf_counter() - started, "s", rows_of_a_stream=rows)
        yield _unified(lake, dates[-1])
        queries = read_queries().values()
        in_duckdb = _duckdb_seconds(lake, queries)
        with serving_at(lake) as url, arriving_at(lake.streams.values(), url, rate) as arrived:
            for query in queries:
                parameters = "&".join(f"{name}={value}" for name, value in PARAMETERS.get(query.name, {}).items())
                requests = [
                    load_generator.get(f"{url}/v1/queries/{query.name}" + (f"?{parameters}" if parameters else ""))
                ]
                alone = round(in_duckdb[query.name] * 1e3, 1)
                yield from latencies("query", generator, url, query.name, requests, seconds, QUERY_MS, duckdb_ms=alone)
            ids = random.Random(1).choices(range(entities), k=LOOKUP_IDS)  # noqa: S311
            devices = [load_generator.get(f"{url}/v1/entities/iot/{_device(number)}") for number in ids]
            yield from latencies("query", generator, url, f"one of {entities:,} entities", devices, seconds, LOOKUP_MS)
            asked = [load_generator.get(f"{url}/v1/customers/{customer}") for customer in customers]
            yield from latencies("query", generator, url, "one customer", asked, seconds, LOOKUP_MS)
            yield figure("query", "events that arrived meanwhile", arrived(), "events/s", asked=rate)


def fill(lake: Lake, rows: int, days: int) -> list[date]:
    """Fill every layer with `rows` events per stream over the days up to today; today's are in realtime too."""
    now = datetime.now(UTC)
    dates = [(now - timedelta(days=back)).date() for back in range(days - 1, -1, -1)]
    for stream in lake.streams.values():
        simulator = Simulator(stream.contract, stream.simulate, 1)
        for start in range(0, rows, BATCH):
            batch = simulator.batch(min(BATCH, rows - start), now - timedelta(days=days - 1), now)
            land(lake.objects, stream.name, batch.lines, now=now)
        ingest_days(lake, stream, [now.date()])
        clean_days(lake, stream, dates)
        ingest_hours(lake, stream, [hour_partition(now)])
        gold.write_daily(lake, stream, dates)
        write_features(lake, stream, dates[-1:])
    gold.write_metrics(lake, dates)
    return dates


def _customers(lake: Lake, entities: int, day: date) -> list[str]:
    """Publish the look-ups, with `entities` devices; return ids of customers."""
    devices = lake.stream("iot")
    features = scan_sql(lake.tables.load("serving.iot_features"))
    select = (
        f"select * replace ('device-' || lpad(number::varchar, 8, '0') as device_id, date {literal(str(day))} as dt)"
        f" from (select * from {features} limit 1), range({entities}) as numbers(number)"
    )
    replace_days(lake, "serving.iot_features", select, [day])
    lookups.refresh_entities(lake, devices)
    for lookup in lookups.declared_lookups(lake).by_name.values():
        lookups.refresh_declared(lake, lookup)
    with lake.engine.cursor() as cursor:
        silver = scan_sql(lake.tables.load("silver.retail"))
        ids = cursor.execute(
            f"select distinct customer_id from {silver} where customer_id is not null order by 1 limit {LOOKUP_IDS}"
        ).fetchall()
    return [str(number) for (number,) in ids]


def _device(number: int) -> str:
    return f"device-{number:08}"


def _duckdb_seconds(lake: Lake, queries: Iterable[NamedQuery]) -> dict[str, float]:
    """Return the median seconds of each query in DuckDB alone, with all views created, on the same files."""
    engine = DuckDB(lake.connection, threads=lake.settings.threads, scratch=lake.settings.root / "scratch")
    try:
        for statement in create_views_sql(lake, view_names(lake)):
            engine.database.execute(statement)
        return {
            query.name: _median(engine.database, query.sql, query.bind(PARAMETERS.get(query.name, {})))
            for query in queries
        }
    finally:
        engine.close()


def _median(database: duckdb.DuckDBPyConnection, sql: str, values: Any = None) -> float:
    """Return the median seconds of a query."""
    seconds = []
    for _ in range(DIRECT_RUNS):
        started = time.perf_counter()
        database.execute(sql, values).fetchall()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _unified(lake: Lake, day: date) -> Figure:
    """Count a unified view whose realtime hours are covered, beside all of realtime read and silver alone."""
    stream = lake.stream("iot")
    silver, realtime = lake.tables.load("silver.iot"), lake.tables.load("realtime.iot")
    ingest_days(lake, stream, [day])
    hours = uncovered_hours(stream, realtime, lake.tables.load("bronze.iot"), silver)
    selects = {
        "covered": unified_sql(stream, silver, realtime, uncovered=hours),
        "all_read_ms": unified_sql(stream, silver, realtime, uncovered=None),
        "silver_ms": f"from {scan_sql(silver)}",
    }
    with lake.engine.cursor() as cursor:
        milliseconds = {
            name: _median(cursor, f"select count(*) from ({select})") * 1e3 for name, select in selects.items()
        }
    covered = milliseconds.pop("covered")
    beside = {name: round(value, 1) for name, value in milliseconds.items()}
    return figure("query", "count of serving.unified_iot, realtime in silver", covered, "ms", **beside)


@contextmanager
def serving_at(lake: Lake) -> Iterator[str]:
    """Serve a lake; yield the gateway's URL."""
    try:
        url = http_server.start(lake.settings).url
        serving.start(lake.settings)
        yield url
    finally:
        serving.stop(lake.settings)
        http_server.stop(lake.settings)


@contextmanager
def arriving_at(streams: Iterable[Stream], url: str, rate: int) -> Iterator[Callable[[], float]]:
    """Post events of all streams during the block; yield a function that returns the events per second so far."""
    requests = [
        request for group in zip(*(_requests(stream, url) for stream in streams), strict=True) for request in group
    ]
    spawn = multiprocessing.get_context("spawn")
    sent, ended = spawn.Value("q", 0), spawn.Event()
    process = spawn.Process(target=_arrive, args=(url, requests, rate, sent, ended))
    process.start()
    started = time.perf_counter()
    try:
        yield lambda: sent.value / (time.perf_counter() - started)
    finally:
        ended.set()
        process.join()


def _requests(stream: Stream, url: str) -> list[bytes]:
    simulator, now = Simulator(stream.contract, stream.simulate, 2), datetime.now(UTC)
    bodies = (simulator.batch(EVENTS, now - timedelta(minutes=1), now).lines for _ in range(BODIES))
    return [load_generator.request(f"{url}/v1/streams/{stream.name}/events", body) for body in bodies]


def _arrive(url: str, requests: Sequence[bytes], rate: int, sent: Any, ended: Any) -> None:
    first = 0
    while not ended.is_set():
        rotated = [*requests[first:], *requests[:first]]
        result = load_generator.run(url, rotated, connections=CONNECTIONS, seconds=3.0, rate=rate / EVENTS)
        first = (first + len(result.sent)) % len(requests)
        sent.value += result.acknowledged * EVENTS


def latencies(
    bench: str,
    generator: ProcessPoolExecutor,
    url: str,
    name: str,
    requests: Sequence[bytes],
    seconds: float,
    reach: float | None,
    clients: Sequence[int] = CLIENTS,
    **more: float,
) -> Iterator[Figure]:
    """Yield the p99 of these requests by each number of clients, after they have warmed up."""
    for number in clients:
        work = partial(load_generator.run, url, requests, connections=number)
        generator.submit(work, seconds=min(WARM_SECONDS, seconds)).result()
        result = generator.submit(work, seconds=seconds).result()
        if result.statuses.keys() != {HTTPStatus.OK}:
            raise AssertionError(f"{name} was answered with statuses {result.statuses}")
        times = {f"p{share}_ms": round(result.percentile(share / 100) * 1e3, 1) for share in (50, 95)}
        rate = round(result.acknowledged / result.seconds, 1)
        p99 = result.percentile(0.99) * 1e3
        label = f"{name}, {number} client{'s' * (number > 1)}, p99"
        yield figure(bench, label, p99, "ms", reach, **times, requests_per_second=rate, **more)
