"""`bench freshness`: the time from POST to visible in SQL over HTTP, while 10,000 events a second arrive."""

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from lakehouse.bench.figures import Figure, figure
from lakehouse.contracts.streams import discover
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.serving.api import server as serving
from lakehouse.settings import Settings
from lakehouse.sources.simulation import Simulator
from lakehouse.storage.embedded import lifecycle as storage

STREAM = "financial"
BATCH = 1000
COUNT = f"select count(*) as n from serving.unified_{STREAM}"
TIMEOUT_SECONDS = 30.0
CONNECTIONS = 16


def measure(
    seconds: float = 30.0, rate: int = 10_000, port: int = 18420, *, bench: str = "freshness", count: str = COUNT
) -> Iterator[Figure]:
    """Post `rate` events a second to a lake of its own, and query the count all the while."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder), http_port=port)
        storage.start(settings)
        try:
            Lake(settings).bootstrap()
            url = http_server.start(settings).url
            serving.start(settings)
            with httpx.Client(base_url=url, timeout=60) as client:
                yield from _measured(client, seconds, rate, bench, count)
        finally:
            serving.stop(settings)
            http_server.stop(settings)
            storage.stop(settings)


def _measured(client: httpx.Client, seconds: float, rate: int, bench: str, sql: str) -> Iterator[Figure]:
    stream, now = discover()[STREAM], datetime.now(UTC)
    simulator = Simulator(stream.contract, stream.simulate, 1)
    count = max(1, int(seconds * rate / BATCH))
    bodies = [simulator.batch(BATCH, now - timedelta(minutes=1), now).lines for _ in range(count)]
    _visible(client, sql)  # warm up: the first query starts the workers
    posted: list[tuple[int, float]] = []
    """Events sent so far, and when the last was sent. An entry is appended before its POST, so that no probe can outrun it."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        sending = pool.submit(_send, pool, client, bodies, rate, posted)
        waited, wrong, met = [], 0, 0
        deadline = begun + seconds + TIMEOUT_SECONDS
        while not (sending.done() and met == count) and time.perf_counter() < deadline:
            seen, at = _visible(client, sql), time.perf_counter()
            wrong += seen > len(posted) * BATCH
            while met < len(posted) and posted[met][0] <= seen:
                waited.append(at - posted[met][1])
                met += 1
        achieved = sending.result()
    waited.sort()
    yield figure(bench, "POST to visible, p50", waited[len(waited) // 2], "s", events_per_second=round(achieved))
    yield figure(bench, "POST to visible, p99", waited[int(len(waited) * 0.99)], "s", reach=1.0)
    yield figure(bench, "missing at the end", count * BATCH - _visible(client, sql), "events", reach=0)
    yield figure(bench, "probes that saw more than was sent", wrong, "probes", reach=0)


def _send(
    pool: ThreadPoolExecutor, client: httpx.Client, bodies: list[bytes], rate: int, posted: list[tuple[int, float]]
) -> float:
    """Post the bodies at this rate, some at once; the events a second that were reached."""
    begun, sent = time.perf_counter(), []
    for number, body in enumerate(bodies):
        time.sleep(max(0.0, begun + number * BATCH / rate - time.perf_counter()))
        posted.append(((number + 1) * BATCH, time.perf_counter()))
        sent.append(pool.submit(_post, client, body))
    for response in sent:
        response.result()
    return len(bodies) * BATCH / (time.perf_counter() - begun)


def _post(client: httpx.Client, body: bytes) -> None:
    path, head = f"/v1/streams/{STREAM}/events", {"content-type": "application/x-ndjson"}
    client.post(path, content=body, headers=head).raise_for_status()


def _visible(client: httpx.Client, sql: str) -> int:
    answer = client.post("/v1/query", content=json.dumps({"sql": sql}), headers={"content-type": "application/json"})
    answer.raise_for_status()
    return int(answer.json()["rows"][0]["n"] or 0)
