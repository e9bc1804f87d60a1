"""Post events to the HTTP server: at a rate, several requests at a time, each retried until it is stored."""

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

MAX_CONCURRENT_REQUESTS = 32
"""Each waits for its events to be stored, which takes a good quarter of a second."""

TIMEOUT_SECONDS = 60.0
MAX_RETRY_SECONDS = 300.0
"""How long a request is retried before the delivery fails."""

RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the API key for it."""

    url: str
    key: str | None = None
    certificate: Path | None = None
    """PEM file of the only certificate to trust, whatever name it is for; None uses the system's certificates."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """The events of one request, as NDJSON."""

    stream: str
    lines: bytes
    count: int
    name: str | None = None
    """The Idempotency-Key: the same whenever these events are sent."""


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """Counts of what the server has stored."""

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


class _RetriableError(Exception):
    def __init__(self, response: httpx.Response) -> None:
        super().__init__(_detail(response))
        self.retry_after = response.headers.get("retry-after", "")


def find_target(settings: Settings) -> Target:
    """Find the running server of this home and its local user's key. Raises LakehouseError if none runs."""
    service = server.running(settings)
    if service is None:
        raise LakehouseError("No HTTP server is running. Start it with `lakehouse up`, or name one with --url.")
    return Target(service.url, keys.local_key(settings), settings.http_tls_certificate)


def _verify(target: Target) -> ssl.SSLContext | bool:
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
    """Post parcels, at most `rate` events a second, and return the counts when all are stored.

    `on_delivered` gets the counts of each parcel, in order, when it and all before it are stored. Raises LakehouseError
    if the server rejects a parcel or does not store it within five minutes.
    """
    total = DeliveryCounts()
    in_flight: deque[Future[DeliveryCounts]] = deque()

    def settle_oldest() -> None:
        nonlocal total
        counts = in_flight.popleft().result()
        total += counts
        on_delivered(counts)

    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    limits = httpx.Limits(max_connections=MAX_CONCURRENT_REQUESTS)
    with (
        httpx.Client(
            base_url=target.url, headers=headers, timeout=TIMEOUT_SECONDS, limits=limits, verify=_verify(target)
        ) as client,
        ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS, thread_name_prefix="post") as pool,
    ):
        started, events = time.monotonic(), 0
        try:
            for parcel in parcels:
                if rate and (early := started + events / rate - time.monotonic()) > 0:
                    time.sleep(early)
                events += parcel.count
                in_flight.append(pool.submit(_post, client, parcel))
                while len(in_flight) >= MAX_CONCURRENT_REQUESTS or (in_flight and in_flight[0].done()):
                    settle_oldest()
            while in_flight:
                settle_oldest()
        finally:
            for future in in_flight:
                future.cancel()
    return total


def _post(client: httpx.Client, parcel: Parcel) -> DeliveryCounts:
    headers = {"content-type": "application/x-ndjson"} | ({"idempotency-key": parcel.name} if parcel.name else {})
    retrying = Retrying(
        retry=retry_if_exception(_is_retriable),
        wait=_wait,
        stop=stop_after_delay(MAX_RETRY_SECONDS),
        reraise=True,
    )
    try:
        accepted = retrying(_post_once, client, f"/v1/streams/{parcel.stream}/events", parcel.lines, headers)
    except (_RetriableError, httpx.TransportError) as error:
        raise LakehouseError(f"The server at {client.base_url} does not accept events: {error}") from error
    return DeliveryCounts(1, accepted["events"], accepted["accepted"], accepted["quarantined"])


def _is_retriable(error: BaseException) -> bool:
    """Return whether another attempt may succeed; not for a certificate that is not trusted."""
    untrusted = isinstance(error, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
    return isinstance(error, _RetriableError | httpx.TransportError) and not untrusted


def _post_once(client: httpx.Client, path: str, lines: bytes, headers: dict[str, str]) -> dict[str, Any]:
    response = client.post(path, content=lines, headers=headers)
    if response.status_code in RETRIED_STATUSES:
        raise _RetriableError(response)
    if response.status_code != httpx.codes.ACCEPTED:
        raise LakehouseError(f"The server rejects the events: {_detail(response)}")
    accepted: dict[str, Any] = response.json()
    return accepted


_backoff = wait_exponential_jitter(multiplier=0.1, max=10, jitter=0.2)


def _wait(state: RetryCallState) -> float:
    """Return the seconds until the next attempt: what the server asks for in Retry-After, else an exponential backoff."""
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after if isinstance(error, _RetriableError) else ""
    return float(retry_after) if retry_after.isdigit() else _backoff(state)


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"
