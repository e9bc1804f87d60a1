"""`POST /v1/query` through the gateway: its formats, its errors, and the limits that end a query."""

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
from lakehouse.pipeline.view_names import stream_view_names
from lakehouse.processes.service import RunningService
from lakehouse.settings import Settings
from lakehouse_tests.waiting import until

Events = Callable[..., bytes]

ENDLESS_SQL = (
    "select count(*) from range(100000) a, range(100000) b, range(100000) c where a.range + b.range + c.range < 0"
)
UNINTERRUPTIBLE_SQL = "select levenshtein(repeat('a', 200000), repeat('b', 200000))"
"""One function call that cannot be interrupted for a minute."""


def post_query(api: httpx.Client, sql: str, accept: str = "application/json", **rest: Any) -> httpx.Response:
    return api.post("/v1/query", json={"sql": sql, **rest}, headers={"accept": accept}, timeout=60)


def problem_detail(response: httpx.Response, status: int) -> str:
    """Check that the response is a problem with this status, and return its detail."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["detail"])


def test_json_result_has_columns_rows_and_statistics(api: httpx.Client) -> None:
    response = post_query(api, "select count(*) as n, 1.50::decimal(5,2) as d from serving.unified_iot where false")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    result = response.json()
    assert result["columns"] == [{"name": "n", "type": "BIGINT"}, {"name": "d", "type": "DECIMAL(5,2)"}]
    assert result["rows"] == [{"n": 0, "d": "1.50"}]
    assert result["statistics"]["rows"] == 1
    assert result["statistics"]["snapshots"].keys() == {"silver.iot", "realtime.iot"}
    assert json.loads(response.headers["lakehouse-statistics"]) == result["statistics"]


DEPTHS = (66, 500, 995, 1000, 20_000, 400_000)
"""Around and beyond the depth to which Python and msgspec recurse."""


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
def test_accept_header_selects_the_format(
    api: httpx.Client, accept: str, media: str, read: Callable[[bytes], list[dict[str, int]]]
) -> None:
    response = post_query(api, "select range as x from range(3)", accept)
    assert response.headers["content-type"].partition(";")[0] == media
    assert read(response.content) == [{"x": 0}, {"x": 1}, {"x": 2}]
    assert json.loads(response.headers["lakehouse-statistics"])["rows"] == 3


def test_unsupported_format_is_a_problem_that_lists_the_supported(api: httpx.Client) -> None:
    assert "text/csv" in problem_detail(post_query(api, "select 1", "image/png"), 406)


def test_body_may_be_plain_sql(api: httpx.Client) -> None:
    response = api.post("/v1/query", content="select 'ü' as x", headers={"content-type": "text/plain; charset=utf-8"})
    assert response.json()["rows"] == [{"x": "ü"}]


def test_parameters_bind_by_position_and_name(api: httpx.Client) -> None:
    assert post_query(api, "select ? + ? as x", params=[1, 2]).json()["rows"] == [{"x": 3}]
    injection = "'; drop view silver.iot; --"
    named = post_query(
        api, "select $who as who, date '2025-01-01' = $day as same", params={"who": injection, "day": "2025-01-01"}
    )
    assert named.json()["rows"] == [{"who": injection, "same": True}]
    assert "parameters: b" in problem_detail(post_query(api, "select $b", params={}), 400)


def test_row_limits_apply_and_are_reported(api: httpx.Client, http_settings: Settings) -> None:
    limited = post_query(api, "select * from range(1000)", limits={"rows": 10}).json()
    assert (len(limited["rows"]), limited["statistics"]["truncated"]) == (10, True)
    server_limited = post_query(api, "select * from range(1000000)", limits={"rows": 10**9}).json()
    assert (len(server_limited["rows"]), server_limited["statistics"]["truncated"]) == (Settings().query_rows, True)
    whole = post_query(api, "select * from range(10)", limits={"rows": 10}).json()
    assert (len(whole["rows"]), whole["statistics"]["truncated"]) == (10, False)


@pytest.mark.parametrize(
    ("body", "status", "message"),
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
        (b'{"sql": ""}', 400, "Send one statement at a time. This is 0"),
        (b'{"sql": 1}', 400, "Invalid query"),
        *((b'{"sql": "select ?", "params": ' + b"[" * n + b"]" * n + b"}", 400, "Invalid query") for n in DEPTHS),
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
def test_invalid_query_is_a_problem_with_its_reason(api: httpx.Client, body: bytes, status: int, message: str) -> None:
    response = api.post("/v1/query", content=body, headers={"content-type": "application/json"})
    assert message in problem_detail(response, status)


def test_other_media_types_and_methods_are_problems(api: httpx.Client) -> None:
    assert "text/plain" in problem_detail(
        api.post("/v1/query", content=b"<sql/>", headers={"content-type": "text/xml"}), 415
    )
    assert api.get("/v1/query").status_code == 405


def test_long_query_is_ended_at_its_time_limit(api: httpx.Client) -> None:
    started = time.monotonic()
    assert "stopped after 0.5 s" in problem_detail(post_query(api, ENDLESS_SQL, limits={"seconds": 0.5}), 408)
    assert time.monotonic() - started < 10


def test_uninterruptible_query_is_ended_at_its_time_limit(api: httpx.Client) -> None:
    assert "stopped after 0.5 s" in problem_detail(post_query(api, UNINTERRUPTIBLE_SQL, limits={"seconds": 0.5}), 408)
    assert post_query(api, "select 1 as x").json()["rows"] == [{"x": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "select repeat('x', 4000000000) as x",
        "select list_sort(range(300000000))[1] as x",
        "select string_agg(repeat('x', 1000000)) from range(100000)",
        "select list(range) from range(1000000000)",
    ],
)
def test_query_out_of_memory_fails_alone(api: httpx.Client, sql: str) -> None:
    assert "memory" in problem_detail(post_query(api, sql), 400).lower()
    assert post_query(api, "select 1 as x").json()["rows"] == [{"x": 1}]


def test_large_result_is_complete_and_too_large_one_rejected(api: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    # Workers that the previous test ended may not have restarted yet.
    while (response := post_query(api, "select repeat('x', 1000) as x from range(10000)")).status_code in (429, 503):
        assert time.monotonic() < deadline
    large = response.json()
    assert [len(row["x"]) for row in large["rows"]] == [1000] * 10_000
    assert "longer than 64 MiB" in problem_detail(
        post_query(api, "select repeat('x', 1000) as x from range(100000)"), 400
    )


def test_slow_queries_do_not_block_ingest_or_other_readers(api: httpx.Client, events: Events) -> None:
    def slow(_: int) -> int:
        return post_query(api, ENDLESS_SQL, limits={"seconds": 4}).status_code

    with ThreadPoolExecutor(100) as pool:
        waiting = [pool.submit(slow, number) for number in range(100)]
        time.sleep(1.0)
        path, head = "/v1/streams/iot/events", {"content-type": "application/x-ndjson"}
        landed = [api.post(path, content=events(20, "iot"), headers=head) for _ in range(3)]
        assert [response.status_code for response in landed] == [202] * 3
        assert api.get("/v1/tables").status_code == 200
        extra = post_query(api, "select 1")
        assert extra.status_code in (200, 429)
        statuses = [future.result() for future in waiting]
    assert set(statuses) == {408, 429}
    assert statuses.count(429) >= 70


def test_disconnect_ends_the_query(api: httpx.Client, running: RunningService, serving: RunningService) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    body = json.dumps({"sql": ENDLESS_SQL}).encode()
    head = f"POST /v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    clients = [socket.create_connection((host, int(port))) for _ in range(2)]
    for client in clients:
        client.sendall(head.encode() + body)
    time.sleep(1.0)
    for client in clients:
        client.close()
    # Queries that still ran would occupy both workers for half a minute.
    until(lambda: post_query(api, "select 1 as x").is_success, 12)


def test_dead_worker_is_replaced(api: httpx.Client, serving: RunningService) -> None:
    for child in psutil.Process(serving.pid).children():
        child.kill()
    deadline = time.monotonic() + 60
    while (response := post_query(api, "select 1 as x")).status_code != 200:
        assert response.status_code in (400, 429), response.text
        assert time.monotonic() < deadline
    for child in psutil.Process(serving.pid).children():
        child.kill()
        child.wait(10)
    time.sleep(0.5)
    assert [post_query(api, "select 1 as x").status_code for _ in range(3)] == [200] * 3


def test_key_for_one_stream_reads_only_its_tables(api: httpx.Client, settings: Settings) -> None:
    _, text = keys.create(settings, "iot alone", ("query",), ("iot",))
    _, ingest = keys.create(settings, "no query", ("ingest",))
    time.sleep(1.1)

    def status(sql: str, key: str = text) -> tuple[int, str]:
        response = api.post("/v1/query", json={"sql": sql}, headers={"authorization": f"Bearer {key}"})
        return response.status_code, response.text

    for sql in ("from silver.iot", "from serving.unified_iot", "from serving.iot_alerts"):
        assert status(sql)[0] == 200, sql
    for sql in ("from silver.financial", "from serving.orders_current", "from gold.daily_metrics"):
        code, body = status(sql)
        assert code == 400
        assert "There are: bronze.iot, " in body
        assert "bronze.logs" not in body
    assert status("from silver.logs at (version => 1)")[0] == 400
    assert status("from silver.iot", ingest)[0] == 403
    headers = {"authorization": f"Bearer {text}"}
    listed = [table["name"] for table in api.get("/v1/tables", headers=headers).json()]
    assert "silver.iot" in listed
    assert set(listed) <= stream_view_names("iot")
    shown = api.post("/v1/query", json={"sql": "show tables"}, headers=headers).json()["rows"]
    assert [row["name"] for row in shown] == listed
    assert api.get("/v1/tail", headers=headers).json().keys() <= {"iot"}


def test_show_tables_lists_what_can_be_queried(api: httpx.Client) -> None:
    names = [table["name"] for table in api.get("/v1/tables").json()]
    assert [row["name"] for row in post_query(api, "show tables").json()["rows"]] == names


@pytest.mark.parametrize(
    ("accept", "cell"),
    [
        ("text/csv", "=1+1"),
        ("text/csv; escape=formulas", "'=1+1"),
        ("text/csv;q=1;escape=formulas, */*;q=0.5", "'=1+1"),
    ],
)
def test_accept_selects_csv_without_formulas(api: httpx.Client, accept: str, cell: str) -> None:
    response = api.post("/v1/query", json={"sql": "select '=1+1' as x"}, headers={"accept": accept})
    assert response.headers["content-type"].startswith("text/csv")
    assert response.text == f"x\r\n{cell}\r\n"
