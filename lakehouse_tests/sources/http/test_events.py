"""POST events: the response, what lands, and the problem details of rejected requests."""

import bz2
import gzip
import json
import lzma
import re
import resource
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pytest

from lakehouse.http import api_keys as keys
from lakehouse.landing.readers.content import InputObject, text_chunks
from lakehouse.processes.service import RunningService
from lakehouse.settings import Settings
from lakehouse.storage.objects.store import Objects

Events = Callable[..., bytes]

PATH = "/v1/streams/financial/events"
NDJSON = {"content-type": "application/x-ndjson"}


def landed(objects: Objects, response: httpx.Response) -> list[bytes]:
    """Read the lines that the response's receipt names."""
    receipt = response.json()["receipt"]
    info = objects.head(receipt["object"])
    assert info is not None
    source = InputObject(info.key, info.modified, info.size, lambda: objects.open(info.key))
    return b"".join(text_chunks(source)).splitlines()[receipt["first_row"] - 1 : receipt["last_row"]]


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """Check that the response has problem details, and return its status and detail."""
    assert response.headers["content-type"] == "application/problem+json"
    details = response.json()
    assert details["status"] == response.status_code
    return response.status_code, details["detail"]


def test_acknowledged_events_are_stored_where_the_receipt_says(
    client: httpx.Client, objects: Objects, events: Events
) -> None:
    lines = events(1000)
    response = client.post(PATH, content=lines, headers=NDJSON)
    content = response.json()
    assert (response.status_code, content["accepted"], content["quarantined"], content["durable"]) == (
        202,
        1000,
        0,
        True,
    )
    assert landed(objects, response) == lines.splitlines()


def test_concurrent_requests_share_an_object_with_own_rows(
    client: httpx.Client, objects: Objects, events: Events
) -> None:
    bodies = [events(20, seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda body: client.post(PATH, content=body, headers=NDJSON), bodies))
    assert [landed(objects, response) for response in responses] == [body.splitlines() for body in bodies]
    assert len({response.json()["receipt"]["object"] for response in responses}) < 12


@pytest.mark.parametrize("pack", [gzip.compress, lambda body: pa.compress(body, codec="zstd", asbytes=True)])
def test_compressed_chunked_body_lands(client: httpx.Client, objects: Objects, events: Events, pack: Any) -> None:
    lines = events(100)
    packed = pack(lines)
    encoding = "gzip" if packed[:2] == b"\x1f\x8b" else "zstd"
    pieces = (packed[start : start + 1000] for start in range(0, len(packed), 1000))
    response = client.post(PATH, content=pieces, headers=NDJSON | {"content-encoding": encoding})
    assert landed(objects, response) == lines.splitlines()


def test_invalid_events_land_and_response_has_reasons(client: httpx.Client, objects: Objects, events: Events) -> None:
    good = events(1).strip()
    bad = good.replace(b'"status":"', b'"status":"un')
    response = client.post(PATH, content=b"\n".join([good, bad, b"nonsense"]), headers=NDJSON)
    content = response.json()
    assert (response.status_code, content["accepted"], content["quarantined"]) == (202, 1, 2)
    assert content["reasons"] == [
        {"row": 2, "field": "status", "reason": "status is none of pending, settled, declined"},
        {"row": 3, "field": None, "reason": "not JSON: Expecting value, at character 1"},
    ]
    assert landed(objects, response) == [good, bad, b"nonsense"]


def test_json_array_and_single_object_are_accepted(client: httpx.Client, events: Events) -> None:
    lines = events(3).splitlines()
    for content, count in (
        (b"[" + b",".join(lines) + b"]", 3),
        (lines[0], 1),
        (json.dumps(json.loads(lines[0]), indent=1), 1),
    ):
        response = client.post(PATH, content=content, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["accepted"]) == (202, count)


def test_without_wait_response_is_not_durable(client: httpx.Client, objects: Objects, events: Events) -> None:
    response = client.post(f"{PATH}?wait=false", content=events(5), headers=NDJSON)
    assert response.status_code == 202
    assert response.json() == {
        "stream": "financial",
        "events": 5,
        "durable": False,
        "accepted": None,
        "quarantined": None,
        "reasons": [],
        "receipt": None,
    }


def test_repeated_idempotency_key_replays_first_response(
    client: httpx.Client, running: RunningService, events: Events
) -> None:
    lines = events(10)
    headers = NDJSON | {"idempotency-key": "one"}
    first = client.post(PATH, content=lines, headers=headers)
    for _ in range(6):  # new connections, to reach other workers
        again = httpx.post(running.url + PATH, content=lines, headers=headers)
        assert (again.status_code, again.content, again.headers["idempotency-replayed"]) == (202, first.content, "true")
    status, detail = problem_of(client.post(PATH, content=events(10, seed=2), headers=headers))
    assert (status, "new key" in detail) == (422, True)


def test_concurrent_requests_with_one_idempotency_key_land_once(running: RunningService, events: Events) -> None:
    lines, headers = events(10), NDJSON | {"idempotency-key": "many"}
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: httpx.post(running.url + PATH, content=lines, headers=headers), range(8)))
    assert {response.status_code for response in responses} <= {202, 409}
    assert len({response.json()["receipt"]["object"] for response in responses if response.status_code == 202}) == 1


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"", NDJSON, 400, "no event"),
        (b" \n\n", NDJSON, 400, "no event"),
        (b"[1, 2", {"content-type": "application/json"}, 400, "NDJSON"),
        (b"[" * 5000, {"content-type": "application/json"}, 400, "nested"),
        (b"x", {"content-type": "text/csv"}, 415, "application/x-ndjson"),
        (b"x", {"content-type": "text/csv"}, 415, "lakehouse send"),
        (b"x", NDJSON | {"content-encoding": "br"}, 415, "gzip"),
        (b"x", NDJSON | {"content-encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(b"{}\n" * 1000, mtime=0)[:-9], NDJSON | {"content-encoding": "gzip"}, 400, "breaks off"),
        (gzip.compress(b"{}", mtime=0), NDJSON, 415, "Content-Encoding: gzip"),
        (bz2.compress(b"{}"), NDJSON, 415, "bzip2"),
        (lzma.compress(b"{}"), NDJSON, 415, "xz"),
        (b"PK\x03\x04" + bytes(40), NDJSON, 415, "the events in it"),
        ("{}".encode("utf-16"), NDJSON, 415, "UTF-8"),
        (b"x", {"content-type": "application/json; charset=latin-1"}, 415, "UTF-8"),
        (b"x" * (5 << 20), NDJSON, 413, "several requests"),
        (gzip.compress(b"0" * (100 << 20), mtime=0), NDJSON | {"content-encoding": "gzip"}, 413, "several requests"),
        (b"{}\n" * 60_000, NDJSON, 413, "several requests"),
        (b"{}", NDJSON | {"idempotency-key": "x" * 300}, 400, "255"),
        (b"{}", NDJSON | {"authorization": "Bearer lh_no_key"}, 401, "lakehouse keys create"),
        (b"{}", NDJSON | {"origin": "https://evil.example"}, 403, "API key"),
        (b"{}", NDJSON | {"host": "evil.example"}, 403, "API key"),
        (b"{}", NDJSON | {"host": "evil.example@127.0.0.1"}, 403, "API key"),
        (b"{}", NDJSON | {"origin": "http://127.0.0.1:80.evil.example"}, 403, "API key"),
        (b"{}", NDJSON | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403, "API key"),
    ],
)
def test_rejected_request_says_what_to_do(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    actual, detail = problem_of(client.post(PATH, content=content, headers=headers))
    assert (actual, words in detail) == (status, True), detail


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Length: 99999999999999", b"{}", 413),
        (b"Content-Length: ten", b"{}", 400),
        (b"Content-Length: -1", b"{}", 400),
        (b"Content-Length: 3\r\nContent-Length: 5", b"{}", 400),
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked", b"zz\r\n{}\r\n", 400),
        (b"X-Long: " + b"x" * 2_000_000, b"", 431),
    ],
)
def test_wrong_content_length_is_rejected(running: RunningService, head: bytes, body: bytes, status: int) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    start = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        with suppress(ConnectionError):  # it may be rejected before all of it is sent
            connection.sendall(start + head + b"\r\n\r\n" + body)
        assert connection.recv(12) == f"HTTP/1.1 {status}".encode()


def test_100_mb_line_is_rejected_before_it_is_received(client: httpx.Client, running: RunningService) -> None:
    piece = b"x" * (1 << 20)
    before = _memory(running)
    status, detail = problem_of(client.post(PATH, content=(piece for _ in range(100)), headers=NDJSON))
    assert (status, "several requests" in detail) == (413, True)
    assert _memory(running) - before < 50 << 20


def _memory(running: RunningService) -> int:
    process = psutil.Process(running.pid)
    return sum(int(member.memory_info().rss) for member in (process, *process.children(recursive=True)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "nested too deeply"),
        (b'{"status":"settled","status":"declined"}', "status appears twice"),
        (b"[{}]", "expected an object, got an array"),
    ],
)
def test_line_that_is_not_an_event_is_quarantined(client: httpx.Client, line: bytes, reason: str) -> None:
    accepted = client.post(PATH, content=line, headers=NDJSON).json()
    assert (accepted["accepted"], accepted["quarantined"], accepted["reasons"][0]["reason"]) == (0, 1, reason)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_other_method_gets_problem_details(client: httpx.Client, method: str) -> None:
    response = client.request(method, PATH)
    assert (response.status_code, "POST" in response.headers["allow"]) == (405, True)
    assert response.headers["content-type"] == "application/problem+json"
    assert method == "HEAD" or "POST" in response.json()["detail"]


def test_other_origins_get_no_cors_headers(client: httpx.Client) -> None:
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert not [name for name in client.options(PATH, headers=preflight).headers if name.startswith("access-control")]


def test_link_from_another_site_may_be_followed(client: httpx.Client) -> None:
    for mode, status in (("navigate", 200), ("no-cors", 403)):
        assert (
            client.get("/metrics", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}).status_code
            == status
        )


def test_unknown_stream_gets_the_known_streams(client: httpx.Client) -> None:
    for name in ("nothing", "f%C3%BCn", "x" * 5000):
        response = client.post(f"/v1/streams/{name}/events", content=b"{}", headers=NDJSON)
        assert problem_of(response)[0] == 404
        assert "financial" in response.json()["streams"]


def test_key_permits_its_scopes_and_streams_until_revoked(client: httpx.Client, settings: Settings) -> None:
    assert {path.stat().st_mode & 0o777 for path in (settings.root / "http").glob("*.key*")} <= {0o600}
    iot, text = keys.create(settings, "sensors", ("ingest",), ("iot",))
    _, reader = keys.create(settings, "reader", ("query",))
    assert text.rpartition("_")[2] not in keys.keys_path(settings).read_text()
    assert iot in keys.list_keys(settings)
    time.sleep(keys.RELOAD_SECONDS + 0.1)

    def status(path: str, key: str) -> int:
        return client.post(path, content=b"{}", headers=NDJSON | {"authorization": f"Bearer {key}"}).status_code

    assert status("/v1/streams/iot/events", text) == 202
    assert status(PATH, text) == 403
    assert status("/v1/streams/iot/events", reader) == 403
    assert status("/v1/streams/iot/events", text + "x") == 401
    client.post(PATH, content=b"{}", headers=NDJSON)
    metrics = client.get("/metrics", headers={"authorization": f"Bearer {text}"}).text
    assert 'stream="iot"' in metrics
    assert set(re.findall(r'stream="([^"]*)"', metrics)) == {"iot"}
    assert "lakehouse_requests_total" in metrics
    keys.revoke(settings, iot.id)
    time.sleep(keys.RELOAD_SECONDS + 0.1)
    assert status("/v1/streams/iot/events", text) == 401


def test_slow_interrupted_and_silent_clients_do_no_harm(
    client: httpx.Client, running: RunningService, events: Events
) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\n".encode()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard_limit, 4096), hard_limit))
    silent = [socket.create_connection((host, int(port))) for _ in range(1000)]
    slow = socket.create_connection((host, int(port)), timeout=60)
    slow.sendall(head + b"Content-Length: 1000000\r\n\r\n{")
    interrupted = socket.create_connection((host, int(port)))
    interrupted.sendall(head + b"Content-Length: 1000\r\n\r\n{}")
    interrupted.close()
    assert client.post(PATH, content=events(10), headers=NDJSON).status_code == 202
    assert slow.recv(12) == b"HTTP/1.1 408"
    for connection in (*silent, slow):
        connection.close()
    metrics = httpx.get(running.url + "/metrics").text
    assert "lakehouse_buffer_bytes 0.0" in metrics


def test_client_that_never_reads_delays_no_other(client: httpx.Client, running: RunningService, events: Events) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    never_reading = socket.create_connection((host, int(port)))
    body = events(1)
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"

    def send_many() -> None:
        never_reading.settimeout(0.5)
        try:
            for _ in range(200):
                never_reading.sendall(head.encode() + body)
        except OSError:
            pass

    thread = threading.Thread(target=send_many)
    thread.start()
    assert client.post(PATH, content=events(10), headers=NDJSON).status_code == 202
    thread.join()
    never_reading.close()


def test_health_metrics_and_schema_are_served(client: httpx.Client, events: Events) -> None:
    client.post(PATH, content=events(3), headers=NDJSON)
    assert client.get("/health/live").json() == {"status": "ok"}
    ready = client.get("/health/ready").json()
    ready.pop("warnings", None)  # of what other tests put under incoming/
    assert ready == {"status": "ok"}
    metrics = client.get("/metrics").text
    for name in ("events_total", "bytes_total", "flush_seconds_count"):
        assert f'lakehouse_{name}{{stream="financial"}}' in metrics
    paths = client.get("/schema/openapi.json").json()["paths"]
    assert set(paths) >= {"/v1/streams/{stream}/events", "/health/live", "/health/ready", "/metrics"}


def test_access_log_has_a_json_line_per_request(client: httpx.Client, settings: Settings, events: Events) -> None:
    body = events(3)
    client.post(PATH, content=body, headers=NDJSON)
    time.sleep(0.8)
    lines = [json.loads(line) for line in (settings.root / "logs" / "access.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["bytes"] == len(body)][-1]
    assert (last["method"], last["path"], last["status"]) == ("POST", PATH, 202)
