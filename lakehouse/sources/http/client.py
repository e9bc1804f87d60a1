"""Posting events to the HTTP server: at a rate, several requests at a time, tried again until they are stored."""

import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from lakehouse.errors import LakehouseError
from lakehouse.http import api_keys as keys
from lakehouse.settings import Settings
from lakehouse.sources.http import server

AT_ONCE = 32
"""Requests. Each waits for its events to be stored, which takes a good quarter of a second."""
PATIENCE = 300.0
"""Seconds after which a request that is refused again and again ends it all."""
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the key to it."""

    url: str
    key: str | None = None
    certificate: Path | None = None
    """PEM file of the one certificate that is trusted, whatever name it is for; None leaves that to the system."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """The events of one request: NDJSON lines, how many, and a name that is the same whenever they are sent."""

    stream: str
    lines: bytes
    count: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """Counts of what the server has taken."""

    requests: int = 0
    events: int = 0
    accepted: int = 0
    quarantined: int = 0

    def __add__(self, other: "DeliveryCounts") -> "DeliveryCounts":
        return DeliveryCounts(
            self.requests + other.requests,
            self.events + other.events,
            self.accepted + other.accepted,
            self.quarantined + other.quarantined,
        )


class _Refused(Exception):  # noqa: N818 (it is an answer)
    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(_detail(answer))
        self.retry_after = answer.headers.get("retry-after", "")


def find_target(settings: Settings) -> Target:
    """The server that runs for this home and its user's key. Raises LakehouseError when none runs."""
    found = server.running(settings)
    if found is None:
        raise LakehouseError("No HTTP server runs; start it with `lakehouse up`, or name one with --url.")
    return Target(found.url, keys.local_key(settings), settings.http_tls_certificate)


def _trust(target: Target) -> ssl.SSLContext | bool:
    if target.certificate is None:
        return True
    context = ssl.create_default_context(cafile=target.certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its issuer need not be known
    return context


def deliver(
    target: Target,
    parcels: Iterable[Parcel],
    *,
    rate: float | None = None,
    on_delivered: Callable[[DeliveryCounts], None] = lambda _: None,
) -> DeliveryCounts:
    """Post the parcels; with `rate`, so many events a second. Returns when all are stored.

    `on_delivered` gets the counts of each parcel, in their order, when it and all before it are stored. Raises
    LakehouseError when the server refuses one for good, or does not answer for minutes.
    """
    total = DeliveryCounts()
    waiting: deque[Future[DeliveryCounts]] = deque()

    def settle() -> None:
        nonlocal total
        done = waiting.popleft().result()
        total += done
        on_delivered(done)

    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    limits = httpx.Limits(max_connections=AT_ONCE)
    with (
        httpx.Client(base_url=target.url, headers=headers, timeout=60, limits=limits, verify=_trust(target)) as client,
        ThreadPoolExecutor(AT_ONCE, thread_name_prefix="post") as pool,
    ):
        begun, events = time.monotonic(), 0
        try:
            for parcel in parcels:
                if rate and (early := begun + events / rate - time.monotonic()) > 0:
                    time.sleep(early)
                events += parcel.count
                waiting.append(pool.submit(_post, client, parcel))
                while len(waiting) >= AT_ONCE or (waiting and waiting[0].done()):
                    settle()
            while waiting:
                settle()
        finally:
            for future in waiting:
                future.cancel()
    return total


def _post(client: httpx.Client, parcel: Parcel) -> DeliveryCounts:
    headers = {"content-type": "application/x-ndjson"} | ({"idempotency-key": parcel.name} if parcel.name else {})
    again = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=_pause,
        stop=stop_after_delay(PATIENCE),
        reraise=True,
    )
    try:
        answer = again(_try, client, f"/v1/streams/{parcel.stream}/events", parcel.lines, headers)
    except (_Refused, httpx.TransportError) as problem:
        raise LakehouseError(f"The server at {client.base_url} takes no events: {problem}") from problem
    return DeliveryCounts(1, answer["events"], answer["accepted"], answer["quarantined"])


def _may_pass(problem: BaseException) -> bool:
    """Whether it may be otherwise the next time; a certificate that can't be trusted will not be."""
    untrusted = isinstance(problem, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(problem)
    return isinstance(problem, _Refused | httpx.TransportError) and not untrusted


def _try(client: httpx.Client, path: str, lines: bytes, headers: dict[str, str]) -> dict[str, Any]:
    answer = client.post(path, content=lines, headers=headers)
    if answer.status_code in AGAIN:
        raise _Refused(answer)
    if answer.status_code != httpx.codes.ACCEPTED:
        raise LakehouseError(f"The server refuses the events: {_detail(answer)}")
    found: dict[str, Any] = answer.json()
    return found


_backoff = wait_exponential_jitter(multiplier=0.1, max=10, jitter=0.2)


def _pause(state: RetryCallState) -> float:
    """What the server asks for, if it does; else longer each time."""
    problem = state.outcome.exception() if state.outcome else None
    asked = problem.retry_after if isinstance(problem, _Refused) else ""
    return float(asked) if asked.isdigit() else _backoff(state)


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
