"""Acknowledged events have landed, each once, whatever the network, the server and the events are like."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlparse

import pytest

import lakehouse
from lakehouse.chaos.unreliable_network import FAULTS, SILENT, NetworkFaults, unreliable
from lakehouse.client.client import Client
from lakehouse.client.parcels import Parcel
from lakehouse.client.requests import _retry_after
from lakehouse.client.results import Rejection, SendResult
from lakehouse.errors import (
    AuthenticationError,
    BusyError,
    LakehouseError,
    PermissionDeniedError,
    RequestError,
    ServerUnreachableError,
    UnknownStreamError,
    UnreadableSourceError,
)
from lakehouse.http import api_keys as keys
from lakehouse.processes.service import RunningService
from lakehouse.settings import Settings
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.landing.landed import landed

VALID = {"account_id": "a", "currency": "EUR", "type": "payment", "status": "settled", "amount": "1.25"}


def payments(name: str, count: int) -> list[dict[str, Any]]:
    at = datetime.now(UTC)
    return [VALID | {"event_id": f"{name}-{number}", "event_time": at} for number in range(count)]


@pytest.fixture(scope="module", autouse=True)
def reader(settings: Settings) -> str:
    """A key that may not send. Created first, because servers know a new key after a second."""
    return keys.create(settings, "reader", ("query",))[1]


@pytest.fixture(scope="module", autouse=True)
def iot(settings: Settings) -> str:
    """A key that may send events of one stream."""
    return keys.create(settings, "iot alone", ("ingest",), ("iot",))[1]


@pytest.fixture
def client(running: RunningService) -> Iterator[Client]:
    with Client(running.url) as client:
        yield client


@pytest.fixture
def ids(objects: Objects) -> Callable[[str], list[str]]:
    """List the ids that begin with a name and have landed, as often as they have."""
    return lambda name: sorted(
        found
        for line in landed(objects, "financial")
        for found in re.findall(rf'"event_id": ?"({name}-[^"]*)"', str(line))
    )


def test_events_are_counted_and_their_reasons_named_by_row(client: Client, ids: Callable[[str], list[str]]) -> None:
    events: list[Any] = payments("counted", 60)
    events[3] = {"event_id": "counted-3"}
    events[25] = '{"event_id": "counted-25", ..'
    events[59] = VALID | {"event_id": "counted-59", "event_time": "soon"}
    progress: list[int] = []
    result = client.send("financial", events, max_events=25, on_progress=lambda part: progress.append(part.events))
    assert (result.requests, result.events, result.accepted, result.rejected, result.replayed) == (3, 60, 57, 3, 0)
    assert {rejection.row for rejection in result.rejections} == {4, 26, 60}
    assert result.rejections[-1].field == "event_time"
    assert progress == [25, 25, 10]
    assert len({*ids("counted")}) == len(ids("counted")) == 60
    assert [receipt.last_row - receipt.first_row + 1 for receipt in result.receipts] == progress
    assert client.send("financial", []) == SendResult()


@pytest.mark.parametrize("fault", FAULTS)
def test_request_or_answer_that_fails_lands_its_events_once(
    running: RunningService, ids: Callable[[str], list[str]], fault: str
) -> None:
    network = NetworkFaults(share=1.0, kinds=[fault], only=b"POST", remaining=2)
    name = fault.replace(" ", "")
    with (
        unreliable(urlparse(running.url).port or 0, network, 1) as port,
        Client(f"http://127.0.0.1:{port}", timeout=2 if fault in SILENT else 60) as client,
    ):
        result = client.send("financial", payments(name, 300), max_events=100)
    assert (network.counts[fault], result.events, result.accepted) == (2, 300, 300)
    assert result.replayed >= (200 if fault in ("lost answer", "cut answer", "no answer") else 0)
    assert ids(name) == sorted(f"{name}-{number}" for number in range(300))


def test_events_sent_again_under_one_key_land_once(client: Client, ids: Callable[[str], list[str]]) -> None:
    events = payments("again", 250)
    key = 'job "ü"/2025'
    broken = [*events[:120], object()]
    with pytest.raises(UnreadableSourceError, match="Event 121 ") as failure:
        client.send("financial", broken, idempotency_key=key, max_events=100)
    assert failure.value.sent is not None
    assert (failure.value.sent.events, failure.value.sent.replayed) == (100, 0)
    result = client.send("financial", events, idempotency_key=key, max_events=100)
    assert (result.events, result.accepted, result.replayed) == (250, 250, 100)
    assert len(ids("again")) == 250
    with pytest.raises(RequestError, match="other events") as conflict:
        client.send("financial", payments("others", 3), idempotency_key=key)
    assert conflict.value.problem is not None
    assert conflict.value.problem["status"] == 422


def test_threads_share_a_client_and_land_every_event_once(client: Client, ids: Callable[[str], list[str]]) -> None:
    def send(number: int) -> int:
        return client.send("financial", payments(f"thread-{number}", 500), max_events=50).accepted

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(8))) == [500] * 8
    landed_ids = ids("thread")
    assert (len(landed_ids), len({*landed_ids})) == (4000, 4000)


def test_request_that_is_too_large_is_split(client: Client, ids: Callable[[str], list[str]]) -> None:
    events = payments("large", 6000)
    events[5000]["amount"] = "none"
    body = "".join(json.dumps(event | {"note": "x" * 1000}, default=str) + "\n" for event in events).encode()
    parcel = Parcel("financial", body, len(events), "large")
    assert len(body) > 4 << 20
    (result,) = client.deliver([parcel])
    assert (result.requests, result.events, result.rejected) == (2, 6000, 1)
    assert [rejection.row for rejection in result.rejections] == [5001]
    (again,) = client.deliver([parcel])
    assert (again.events, again.replayed) == (6000, 6000)
    assert len({*ids("large")}) == 6000
    with pytest.raises(RequestError, match="MiB") as failure:
        client.send("financial", [*payments("small", 3), VALID | {"note": "x" * (5 << 20)}])
    assert failure.value.sent is not None
    assert failure.value.sent.events == 3


def test_failure_says_what_later_requests_have_stored(client: Client) -> None:
    good = "\n".join(json.dumps(event, default=str) for event in payments("later", 3)[:2]) + "\n{}\n"
    parcels = [Parcel(name, good.encode(), 3) for name in ("financial", "nothing", "financial")]
    results: list[SendResult] = []
    with pytest.raises(UnknownStreamError, match="no stream 'nothing'") as failure:
        results += client.deliver(parcels)
    assert failure.value.sent is not None
    assert failure.value.sent.events in (0, 3)  # it may end before the last one has started
    assert {rejection.row for rejection in failure.value.sent.rejections} <= {6}


def test_key_is_needed_with_its_scope_and_stream(running: RunningService, reader: str, iot: str) -> None:
    cases: list[tuple[str, type[LakehouseError], str]] = [
        ("lh_00000000_guessed", AuthenticationError, "unknown or revoked"),
        (reader, PermissionDeniedError, "does not permit ingest on financial"),
        (iot, PermissionDeniedError, "does not permit ingest on financial"),
    ]
    for key, error, message in cases:
        with Client(running.url, f"{key}\n") as client, pytest.raises(error, match=message) as failure:
            client.send("financial", payments("denied", 2))
        assert failure.value.sent == SendResult()
        assert key not in repr(client)


def test_error_of_the_iterable_passes_and_says_what_is_stored(client: Client) -> None:
    def events() -> Iterator[dict[str, Any]]:
        yield from payments("iterable", 60)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more") as failure:
        client.send("financial", events(), max_events=50)
    assert failure.value.__notes__ == ["Client.send had stored 50 events of financial before this."]


class _Other(BaseHTTPRequestHandler):
    """Answers as no lakehouse does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_request(self, *_: object) -> None:
        pass


def test_other_server_is_named() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}/") as client:
            calls: list[Callable[[], Any]] = [
                client.tables, client.health, client.streams,
                lambda: client.send("iot", [{}]), lambda: client.query("select 1"), lambda: client.get("/"),
            ]  # fmt: skip
            for call in calls:
                with pytest.raises(
                    RequestError, match=f"http://127.0.0.1:{server.server_port}/.* does not answer as a"
                ):
                    call()
        server.shutdown()


class _Busy(BaseHTTPRequestHandler):
    """Answers 429 to all requests but each third."""

    requests = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).requests += 1
        if type(self).requests % 3:
            self.send_response(429)
            self.send_header("retry-after", format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True))
            content = b'{"status": 429, "detail": "Slow down."}'
        else:
            self.send_response(202)
            content = b'{"events": 1, "accepted": 1, "quarantined": 0}'
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *_: object) -> None:
        pass


def test_busy_server_is_asked_again_until_the_time_is_over() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Client(url) as patient, Client(url, retry_seconds=0) as hasty:
            assert patient.send("iot", [{}]).accepted == 1
            assert _Busy.requests == 3
            with pytest.raises(BusyError, match="Slow down") as failure:
                hasty.send("iot", [{}])
            assert failure.value.retry_after is not None
        server.shutdown()
    assert _Busy.requests == 4


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("7", 7.0), ("soon", None), ("-1", None)])
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    assert _retry_after(text) == seconds


def test_server_that_is_not_there_is_named() -> None:
    with (
        Client("http://127.0.0.1:9", retry_seconds=0.2) as client,
        pytest.raises(ServerUnreachableError, match=r"http://127\.0\.0\.1:9 does not answer"),
    ):
        client.send("iot", [{}])
    for url in ("127.0.0.1:8000", "ftp://host", ""):
        with pytest.raises(ValueError, match="not the URL of a server"):
            lakehouse.Client(url)


def test_closed_client_says_so() -> None:
    client = Client()
    client.close()
    for call in (client.tables, lambda: client.send("iot", [{}])):
        with pytest.raises(RuntimeError, match="This client is closed"):
            call()


def test_sum_counts_rows_on() -> None:
    part = SendResult(1, 10, 9, 1, rejections=(Rejection(4, None, "r"),))
    assert [rejection.row for rejection in (part + part + part).rejections] == [4, 14, 24]
