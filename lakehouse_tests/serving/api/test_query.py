"""`POST /v1/query` through the front door: what it gives, what it refuses, and what it ends."""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pytest

from lakehouse.http import api_keys as keys
from lakehouse.settings import Settings
from lakehouse.sources.http.server import RunningService

Events = Callable[..., bytes]

FOREVER = "select count(*) from range(100000) a, range(100000) b, range(100000) c where a.range + b.range + c.range < 0"
STUBBORN = "select levenshtein(repeat('a', 200000), repeat('b', 200000))"
"""One call of a function that never looks up, for a minute."""


def ask(api: httpx.Client, sql: str, accept: str = "application/json", **rest: Any) -> httpx.Response:
    return api.post("/v1/query", json={"sql": sql, **rest}, headers={"accept": accept}, timeout=60)


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def test_rows_come_as_json_with_what_it_took(api: httpx.Client) -> None:
    answer = ask(api, "select count(*) as n, 1.50::decimal(5,2) as d from serving.unified_iot")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found = answer.json()
    assert found["columns"] == [{"name": "n", "type": "BIGINT"}, {"name": "d", "type": "DECIMAL(5,2)"}]
    assert found["rows"] == [{"n": 0, "d": "1.50"}]
    assert found["statistics"]["rows"] == 1
    assert found["statistics"]["snapshots"] == {"silver.iot": None, "realtime.iot": None}
    assert json.loads(answer.headers["lakehouse-statistics"]) == found["statistics"]


@pytest.mark.parametrize(
    ("accept", "media", "read"),
    [
        ("application/x-ndjson", "application/x-ndjson", lambda body: [json.loads(line) for line in body.splitlines()]),
        ("text/csv", "text/csv", lambda body: [{"x": int(line)} for line in body.split()[1:]]),
        ("text/*;q=0.5, image/png", "text/csv", lambda body: [{"x": int(line)} for line in body.split()[1:]]),
        ("*/*", "application/json", lambda body: json.loads(body)["rows"]),
        ("text/html, application/json;q=0.9, */*;q=0.1", "application/json", lambda body: json.loads(body)["rows"]),
        (
            "application/vnd.apache.arrow.stream",
            "application/vnd.apache.arrow.stream",
            lambda body: pa.ipc.open_stream(body).read_all().to_pylist(),
        ),
    ],
)
def test_the_format_is_what_the_client_accepts(
    api: httpx.Client, accept: str, media: str, read: Callable[[bytes], list[dict[str, int]]]
) -> None:
    answer = ask(api, "select range as x from range(3)", accept)
    assert answer.headers["content-type"].partition(";")[0] == media
    assert read(answer.content) == [{"x": 0}, {"x": 1}, {"x": 2}]
    assert json.loads(answer.headers["lakehouse-statistics"])["rows"] == 3


def test_a_format_that_is_not_there_is_refused_with_those_that_are(api: httpx.Client) -> None:
    assert "text/csv" in detail(ask(api, "select 1", "image/png"), 406)


def test_sql_may_come_alone(api: httpx.Client) -> None:
    answer = api.post("/v1/query", content="select 'ü' as x", headers={"content-type": "text/plain; charset=utf-8"})
    assert answer.json()["rows"] == [{"x": "ü"}]


def test_parameters_are_bound_by_place_and_by_name_and_are_never_sql(api: httpx.Client) -> None:
    assert ask(api, "select ? + ? as x", params=[1, 2]).json()["rows"] == [{"x": 3}]
    evil = "'; drop view silver.iot; --"
    named = ask(api, "select $who as who, date '2025-01-01' = $day as same", params={"who": evil, "day": "2025-01-01"})
    assert named.json()["rows"] == [{"who": evil, "same": True}]
    assert "parameters: b" in detail(ask(api, "select $b", params={}), 400)


def test_limits_are_kept_and_said(api: httpx.Client, http_settings: Settings) -> None:
    limited = ask(api, "select * from range(1000)", limits={"rows": 10}).json()
    assert (len(limited["rows"]), limited["statistics"]["truncated"]) == (10, True)
    most = ask(api, "select * from range(1000000)", limits={"rows": 10**9}).json()
    assert (len(most["rows"]), most["statistics"]["truncated"]) == (Settings().query_rows, True)
    whole = ask(api, "select * from range(10)", limits={"rows": 10}).json()
    assert (len(whole["rows"]), whole["statistics"]["truncated"]) == (10, False)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"sql": "selec 1"}', 400, "LINE 1: selec 1"),
        (
            b'{"sql": "select nonsense from silver.iot"}',
            400,
            "LINE 1: select nonsense from silver.iot\n               ^",
        ),
        (b'{"sql": "select * from silver.nothing"}', 400, "There are: bronze.clickstream, "),
        (b'{"sql": "delete from silver.iot"}', 400, "Only reading is allowed"),
        (b'{"sql": "select getenv(\'HOME\')"}', 400, "not allowed here"),
        (b'{"sql": "select 1; select 2"}', 400, "Send one statement at a time"),
        (b'{"sql": ""}', 400, "One statement"),
        (b'{"sql": 1}', 400, "Invalid query"),
        (b'{"sql": "select 1", "limit": 5}', 400, "`limit`"),
        (b'{"sql": "select 1", "limits": {"rows": 0}}', 400, "limits.rows"),
        (b'{"sql": "select 1", "params": 5}', 400, "params"),
        (b"{", 400, '{"sql": "select'),
        (b"", 400, '{"sql": "select'),
        (b'{"sql": "' + b"x" * (2 << 20) + b'"}', 413, "KiB"),
        (b'{"sql": "select \'' + b"x" * (300 << 10) + b"'\"}", 400, "characters"),
        (b'{"sql": "select error(\'boom\')"}', 400, "boom"),
        (b'{"sql": "select 1 from silver.iot at (version => 5)"}', 400, "has no snapshot or tag 5"),
        (b'{"sql": "select \\u0000"}', 400, ""),
    ],
)
def test_what_is_wrong_is_said(api: httpx.Client, body: bytes, status: int, said: str) -> None:
    answer = api.post("/v1/query", content=body, headers={"content-type": "application/json"})
    assert said in detail(answer, status)


def test_other_types_and_methods_are_problems_too(api: httpx.Client) -> None:
    assert "text/plain" in detail(api.post("/v1/query", content=b"<sql/>", headers={"content-type": "text/xml"}), 415)
    assert api.get("/v1/query").status_code == 405


def test_a_query_of_an_hour_is_ended_and_says_so(api: httpx.Client) -> None:
    begun = time.monotonic()
    assert "ended after 0.5 s" in detail(ask(api, FOREVER, limits={"seconds": 0.5}), 408)
    assert time.monotonic() - begun < 10


def test_a_function_that_never_looks_up_is_ended_too(api: httpx.Client) -> None:
    assert "ended after 0.5 s" in detail(ask(api, STUBBORN, limits={"seconds": 0.5}), 408)
    assert ask(api, "select 1 as x").json()["rows"] == [{"x": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "select repeat('x', 4000000000) as x",
        "select list_sort(range(300000000))[1] as x",
        "select string_agg(repeat('x', 1000000)) from range(100000)",
        "select list(range) from range(1000000000)",
    ],
)
def test_a_query_that_needs_too_much_memory_ends_alone(api: httpx.Client, sql: str) -> None:
    assert "memory" in detail(ask(api, sql), 400).lower()
    assert ask(api, "select 1 as x").json()["rows"] == [{"x": 1}]


def test_an_answer_that_is_too_long_is_refused_and_a_long_one_is_whole(api: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    # The workers that the test before has ended may not be back yet.
    while (answer := ask(api, "select repeat('x', 1000) as x from range(10000)")).status_code in (429, 503):
        assert time.monotonic() < deadline
    long = answer.json()
    assert [len(row["x"]) for row in long["rows"]] == [1000] * 10_000
    assert "longer than 64 MiB" in detail(ask(api, "select repeat('x', 1000) as x from range(100000)"), 400)


def test_many_slow_queries_hold_up_no_ingest_and_no_other_reader(api: httpx.Client, events: Events) -> None:
    def slow(_: int) -> int:
        return ask(api, FOREVER, limits={"seconds": 4}).status_code

    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(slow, number) for number in range(100)]
        time.sleep(1.0)
        path, head = "/v1/streams/iot/events", {"content-type": "application/x-ndjson"}
        landed = [api.post(path, content=events(20, "iot"), headers=head) for _ in range(3)]
        assert [answer.status_code for answer in landed] == [202] * 3
        assert api.get("/v1/tables").status_code == 200
        refused = ask(api, "select 1")
        assert refused.status_code in (200, 429)
        statuses = [one.result() for one in waiting]
    assert set(statuses) == {408, 429}
    assert statuses.count(429) >= 70


def test_a_client_that_leaves_ends_its_query(
    api: httpx.Client, running: RunningService, serving: RunningService
) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    body = json.dumps({"sql": FOREVER}).encode()
    head = f"POST /v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    clients = [socket.create_connection((host, int(port))) for _ in range(2)]
    for client in clients:
        client.sendall(head.encode() + body)
    time.sleep(1.0)
    for client in clients:
        client.close()
    # Were they still running, both workers would be taken for half a minute.
    deadline = time.monotonic() + 12
    while (answer := ask(api, "select 1 as x")).status_code == 429:
        assert time.monotonic() < deadline
    assert answer.json()["rows"] == [{"x": 1}]


def test_a_worker_that_dies_is_replaced(api: httpx.Client, serving: RunningService) -> None:
    for child in psutil.Process(serving.pid).children():
        child.kill()
    deadline = time.monotonic() + 60
    while (answer := ask(api, "select 1 as x")).status_code != 200:
        assert answer.status_code in (400, 429), answer.text
        assert time.monotonic() < deadline
    for child in psutil.Process(serving.pid).children():
        child.kill()
        child.wait(10)
    time.sleep(0.5)
    assert [ask(api, "select 1 as x").status_code for _ in range(3)] == [200] * 3


def test_a_key_for_some_streams_reads_their_tables_alone(api: httpx.Client, settings: Settings) -> None:
    _, text = keys.create(settings, "iot alone", ("query",), ("iot",))
    _, ingest = keys.create(settings, "no query", ("ingest",))
    time.sleep(1.1)

    def status(sql: str, key: str = text) -> tuple[int, str]:
        answer = api.post("/v1/query", json={"sql": sql}, headers={"authorization": f"Bearer {key}"})
        return answer.status_code, answer.text

    for sql in ("from silver.iot", "from serving.unified_iot", "from serving.iot_alerts"):
        assert status(sql)[0] == 200, sql
    for sql in ("from silver.financial", "from serving.orders_current", "from gold.daily_metrics"):
        code, said = status(sql)
        assert code == 400
        assert "There are: bronze.iot, " in said
        assert "bronze.logs" not in said
    assert status("from silver.logs at (version => 1)")[0] == 400
    assert status("from silver.iot", ingest)[0] == 403
