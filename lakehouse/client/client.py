"""The client of the HTTP API. See `requests` for retries and errors, and `parcels` for how events are sent."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from os import PathLike
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from lakehouse.client.events import event_lines
from lakehouse.client.forms import Events, as_events
from lakehouse.client.parcels import Parcel, cut_parcels, deliver
from lakehouse.client.requests import ErrorTypes, Requests, Retry, decode
from lakehouse.client.results import (
    AlertPage,
    Health,
    LookupInfo,
    QueryInfo,
    Receipt,
    Rejection,
    SendResult,
    Statistics,
    TableInfo,
    Withdrawal,
)
from lakehouse.client.rows import Rows
from lakehouse.errors import (
    CommitConflictError,
    LakehouseError,
    ObjectNotFoundError,
    ParameterError,
    QueryError,
    QueryTimeoutError,
)

DEFAULT_URL = "http://127.0.0.1:8000"

SEND_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
READ_STATUSES = frozenset({425, 429, 502, 503, 504})
READ_SECONDS = 30.0
"""How long a request that only reads is retried: longer than the serving process takes to restart."""

TOO_LARGE = 413
MAX_REASONS = 1_000
"""Reasons that the server gives with one request, at most."""

MAX_NAME_CHARACTERS = 200
"""Leaves room for the number of a parcel within the 255 characters of an Idempotency-Key."""

KEY_CHARACTERS = " !#$&'()*+,/:;=?@"
"""ASCII characters of an Idempotency-Key, besides letters and digits, that need no encoding."""

ARROW = "application/vnd.apache.arrow.stream"
QUERY_ERRORS: ErrorTypes = {400: QueryError, 408: QueryTimeoutError}
NAMED_ERRORS: ErrorTypes = {400: ParameterError, 408: QueryTimeoutError}
WITHDRAWAL_ERRORS: ErrorTypes = {404: ObjectNotFoundError, 409: CommitConflictError}

T = TypeVar("T")


class _Accepted(msgspec.Struct):
    events: int
    accepted: int
    quarantined: int
    durable: bool = True
    reasons: tuple[Rejection, ...] = ()
    receipt: Receipt | None = None


class Client:
    """A client of one HTTP server. Threads may share it; connections are kept between requests.

    Use it as a context manager, or call `close`. Its methods raise the exceptions of `lakehouse.errors`, all of them a
    LakehouseError.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        certificate: str | PathLike[str] | None = None,
        timeout: float = 60.0,
        retry_seconds: float = 300.0,
        concurrency: int = 32,
    ) -> None:
        """Create a client of the server at `url`. Connects at the first request.

        Args:
            url: The address that `lakehouse up` prints.
            key: An API key from `lakehouse keys create`. On loopback none is needed, except to withdraw.
            certificate: PEM file of the only certificate to trust, whatever name it is for. Without it, the system's.
            timeout: Seconds to wait for an answer.
            retry_seconds: How long `send` tries again while the server is busy, broken or gone. Other requests that only
                read are tried again for 30 seconds at most.
            concurrency: Requests that `send` has under way at a time. With 1, events land in their order.

        Raises ValueError for a URL that is none.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}.")
        path = None if certificate is None else Path(certificate)
        self._requests = Requests(url, key, certificate=path, timeout=timeout)
        self._timeout = timeout
        self._concurrency = concurrency
        self._sending = Retry(retry_seconds, SEND_STATUSES)
        self._reading = Retry(min(retry_seconds, READ_SECONDS), READ_STATUSES, after_timeout=False)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="lakehouse-send")

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._requests.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections once requests under way have ended. A client that is closed can't be used again."""
        self._requests.end_retries()
        self._pool.shutdown(cancel_futures=True)
        self._requests.close()

    # Sending

    def send(
        self,
        stream: str,
        events: Events,
        *,
        idempotency_key: str | None = None,
        max_events: int = 5_000,
        rate: float | None = None,
        on_progress: Callable[[SendResult], None] = lambda _result: None,
    ) -> SendResult:
        """Send events and return when all of them are stored.

        They go in requests of at most `max_events` and a MiB, several at a time. A request is sent again while the server
        is busy, broken or gone, with the same idempotency key, so that its events are stored once even if the answer was
        lost. One that is too large for the server is split.

        Args:
            stream: The stream's name.
            events: An iterable of events: mappings, dataclasses, msgspec Structs, or lines of JSON as text or bytes. Or one
                mapping; an Arrow, pandas or Polars table; a DuckDB relation; the path of an NDJSON, JSON, Parquet or Arrow
                file; or NDJSON as bytes. An iterable is read as it is sent, so it need not fit into memory.
            idempotency_key: A name of these events, such as that of the job and its day. When the same events are sent
                again under it within a day, by any process, those that are stored are not stored again. Without it, a
                random one serves the retries of this call.
            max_events: Events in one request. Under one idempotency key it must stay the same.
            rate: Events a second, at most, on average. A smaller `max_events` makes the flow steadier.
            on_progress: Called with the result of each request, in order, once it and all before are stored.

        Returns:
            The counts, with each reason for which an event was rejected. An event that breaks the contract is stored, in
            quarantine, and is no error.

        Raises:
            LakehouseError: If events could not be stored: AuthenticationError, PermissionDeniedError, UnknownStreamError,
                UnreadableSourceError, RequestError; BusyError, StorageUnavailableError or ServerUnreachableError when
                `retry_seconds` are over. `error.sent` has those that are known to be stored. Call again with the same
                events and `idempotency_key` to send the rest.
        """
        name = uuid.uuid4().hex if idempotency_key is None else quote(idempotency_key, safe=KEY_CHARACTERS)
        if not 0 < len(name) <= MAX_NAME_CHARACTERS:
            raise ValueError(f"idempotency_key has 1 to {MAX_NAME_CHARACTERS} characters, not {len(name)}.")
        stored: list[SendResult] = []
        try:
            parcels = cut_parcels(stream, event_lines(as_events(events)), name, max_events)
            for result in self.deliver(parcels, rate=rate):
                stored.append(result)
                on_progress(result)
        except LakehouseError as error:
            error.sent = SendResult.sum([*stored, error.sent or SendResult()])
            raise
        except Exception as error:
            error.add_note(f"Client.send had stored {SendResult.sum(stored).events} events of {stream} before this.")
            raise
        return SendResult.sum(stored)

    def deliver(self, parcels: Iterable[Parcel], *, rate: float | None = None) -> Iterator[SendResult]:
        """Send parcels, of any streams, as `send` does. Yield the result of each in order, once it and all before are stored.

        It is for programs that cut requests themselves, as `lakehouse send` and `lakehouse generate` do. Raises what `send`
        raises; `error.sent` has what parcels after the failed one stored.
        """
        self._requests.check_open()
        return deliver(self._post, self._pool, parcels, rate=rate, concurrency=self._concurrency)

    def _post(self, parcel: Parcel, stop: Event) -> SendResult:
        try:
            return self._post_once(parcel, stop)
        except LakehouseError as error:
            if error.problem is None or error.problem["status"] != TOO_LARGE or parcel.count < 2:
                raise
        first, second = parcel.halves()
        stored = self._post(first, stop)
        try:
            return stored + self._post(second, stop)
        except LakehouseError as error:
            error.sent = stored + (error.sent or SendResult())
            raise

    def _post_once(self, parcel: Parcel, stop: Event) -> SendResult:
        headers = {"content-type": "application/x-ndjson"}
        if parcel.name is not None:
            headers["idempotency-key"] = parcel.name
        response = self._requests.send(
            "POST",
            f"/v1/streams/{_segment(parcel.stream)}/events",
            retry=self._sending,
            stop=stop,
            params={"reasons": MAX_REASONS},
            content=parcel.lines,
            headers=headers,
        )
        accepted = decode(response.content, _Accepted, response)
        return SendResult(
            requests=1,
            events=accepted.events,
            accepted=accepted.accepted,
            rejected=accepted.quarantined,
            replayed=accepted.events if "idempotency-replayed" in response.headers else 0,
            durable=accepted.durable,
            rejections=accepted.reasons,
            receipts=(accepted.receipt,) if accepted.receipt else (),
        )

    # Reading

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        rows: int | None = None,
        seconds: float | None = None,
        min_receipt: Receipt | Sequence[Receipt] = (),
    ) -> Rows:
        """Run one SELECT over the tables and views of `tables`.

        Args:
            sql: The statement, with `?` or `$name` for parameters.
            parameters: A sequence for `?`, a mapping for `$name`. They are values, never SQL.
            rows: Return at most so many, the first. Without it, more rows than the server returns are an error.
            seconds: End the query after so many; the server has a limit of its own.
            min_receipt: Wait until the answer holds the events of these receipts, as a send returned them.

        Raises:
            QueryError: If the query is wrong, or has more rows than the server returns.
            QueryTimeoutError: If it takes too long, or the events of `min_receipt` can't be queried in time.
            NotFoundError: If the events of `min_receipt` were never stored, or are gone.
            BusyError: If all workers of the server are busy for 30 seconds.
        """
        limits = {name: limit for name, limit in (("rows", rows), ("seconds", seconds)) if limit is not None}
        params = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
        result = self._rows(
            "POST",
            "/v1/query",
            QUERY_ERRORS,
            timeout=None if seconds is None else max(self._timeout, seconds + READ_SECONDS),
            content=msgspec.json.encode({"sql": sql, "params": params, "limits": limits}),
            headers={"content-type": "application/json", **_min_receipt(min_receipt)},
        )
        if result.truncated and rows is None:
            raise _incomplete(result, "Pass rows=N to take the first N")
        return result

    def named(self, name: str, /, *, min_receipt: Receipt | Sequence[Receipt] = (), **parameters: Any) -> Rows:
        """Run a named query of `queries`. `min_receipt` is that of `query`.

        Raises NotFoundError for an unknown name, ParameterError for an unknown, missing or wrong parameter, QueryError for
        more rows than the server returns, QueryTimeoutError and BusyError.
        """
        params = {key: _parameter(value) for key, value in parameters.items() if value is not None}
        result = self._rows(
            "GET", f"/v1/queries/{_segment(name)}", NAMED_ERRORS, params=params, headers=_min_receipt(min_receipt)
        )
        if result.truncated:
            raise _incomplete(result, "Narrow the parameters")
        return result

    def features(
        self,
        entities: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        *,
        min_receipt: Receipt | Sequence[Receipt] = (),
    ) -> Rows:
        """Add features to entities with times, as they were known then.

        Args:
            entities: Up to 10,000 rows with the column of each stream's entity, such as `device_id`, and `time`: a time with a
                zone, or the text `now`.
            names: Features as `stream.feature`, such as `iot.readings_7d`.
            min_receipt: That of `query`.

        Raises:
            UnknownStreamError: If there is no such stream.
            ParameterError: If anything else is wrong; the message names the row.
            QueryTimeoutError: If it takes too long. Ask for fewer entities.
        """
        return self._rows(
            "POST",
            "/v1/features",
            NAMED_ERRORS,
            content=msgspec.json.encode({"features": list(names), "entities": list(entities)}),
            headers={"content-type": "application/json", **_min_receipt(min_receipt)},
        )

    def _rows(
        self,
        method: str,
        path: str,
        errors: ErrorTypes,
        *,
        headers: Mapping[str, str] | None = None,
        **request: Any,
    ) -> Rows:
        headers = {"accept": ARROW, **(headers or {})}
        response = self._requests.send(method, path, retry=self._reading, errors=errors, headers=headers, **request)
        statistics = decode(response.headers.get("lakehouse-statistics", ""), Statistics, response)
        return Rows(statistics, response.content)

    def lookup(self, name: str, key: object, /) -> dict[str, Any]:
        """Return the row of a look-up of `lookups` by its key, which may have any characters. Decimals are text, exact.

        Raises NotFoundError if there is no such look-up, or none of this key.
        """
        return self._get(f"/v1/lookups/{_segment(name)}/{_segment(str(key))}", dict[str, Any])

    def entity(self, stream: str, key: object, /) -> dict[str, Any]:
        """Return the newest features of a stream's entity, such as a device. Raises NotFoundError and UnknownStreamError."""
        return self._get(f"/v1/entities/{_segment(stream)}/{_segment(str(key))}", dict[str, Any])

    def customer(self, key: object, /) -> dict[str, Any]:
        """Return a customer's row of the look-up `customers`, with their features by stream. Raises NotFoundError."""
        return self._get(f"/v1/customers/{_segment(str(key))}", dict[str, Any])

    def lookups(self) -> list[LookupInfo]:
        """List the look-ups with their keys."""
        return self._get("/v1/lookups", list[LookupInfo])

    def queries(self) -> list[QueryInfo]:
        """List the named queries with their parameters."""
        return self._get("/v1/queries", list[QueryInfo])

    def tables(self) -> list[TableInfo]:
        """List the tables and views that the key may read."""
        return self._get("/v1/tables", list[TableInfo])

    def streams(self) -> list[str]:
        """List the streams that the key may read."""
        return [stream["stream"] for stream in self.overview()["streams"]]

    def overview(self) -> dict[str, Any]:
        """Return each stream's rate, freshness, quality and partitions, as `GET /v1/overview` does."""
        return self._get("/v1/overview", dict[str, Any])

    def partitions(self, *, to: date | None = None, days: int = 30) -> dict[str, Any]:
        """Return the state of each layer's partitions, day by day up to `to`."""
        return self._get("/v1/overview/partitions", dict[str, Any], to=to, days=days)

    def metrics(self, stream: str) -> dict[str, Any]:
        """Return the daily metrics that a stream has, with their dimensions."""
        return self._get(f"/v1/overview/metrics/{_segment(stream)}", dict[str, Any])

    def metric(self, stream: str, metric: str, *, first: date, last: date, by: str | None = None) -> dict[str, Any]:
        """Return the values of a daily metric, by a dimension if `by` names one."""
        path = f"/v1/overview/metrics/{_segment(stream)}/{_segment(metric)}"
        return self._get(path, dict[str, Any], first=first, last=last, by=by)

    def tail(self) -> dict[str, dict[str, int]]:
        """Return by stream how much landed after the realtime tables' last commit."""
        return self._get("/v1/tail", dict[str, dict[str, int]])

    def alerts(self, *, stream: str | None = None, since: datetime | str | None = None, limit: int = 100) -> AlertPage:
        """Return a page of alerts: the newest, or those from a time or the `next` of an earlier page on."""
        return self._get("/v1/alerts", AlertPage, stream=stream, since=since, limit=limit)

    def follow_alerts(self, *, stream: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield each new alert as it happens, without an end. An alert that is computed again with another result comes again.

        After a lost connection it goes on where it broke off; alerts may come twice if the serving process has restarted. To
        receive each exactly once, even over a restart of your program, follow `next` of `alerts`.
        """
        return self._follow("/v1/alerts/live", {} if stream is None else {"stream": stream})

    def follow_overview(self) -> Iterator[dict[str, Any]]:
        """Yield the overview every second, without an end."""
        return self._follow("/v1/overview/live", {})

    def _follow(self, path: str, params: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        from lakehouse.client.feed import follow  # programs that only send do without

        return follow(self._requests, path, params, Retry(self._sending.seconds, READ_STATUSES))

    def quarantine(
        self, stream: str, *, since: datetime | str | None = None, reason: str | None = None, limit: int = 20
    ) -> dict[str, Any]:
        """Return a stream's rejected rows by reason, and the newest with their text."""
        path = f"/v1/quarantine/{_segment(stream)}"
        return self._get(path, dict[str, Any], since=since, reason=reason, limit=limit)

    def health(self) -> Health:
        """Return the server's health. Raises StorageUnavailableError or ServerUnreachableError at once, without a retry."""
        response = self._requests.send("GET", "/health/ready", retry=Retry(0.0, frozenset()))
        return decode(response.content, Health, response)

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON that the server answers at a path, such as `/v1/tables`. `/schema` lists the paths."""
        return self._get(path, object, **parameters)

    def _get(self, path: str, kind: type[T], **parameters: Any) -> T:
        params = {name: _parameter(value) for name, value in parameters.items() if value is not None}
        response = self._requests.send("GET", path, retry=self._reading, params=params)
        return decode(response.content, kind, response)

    # Withdrawing

    def withdraw(self, objects: Sequence[str], *, dry_run: bool = False) -> list[Withdrawal]:
        """Delete landing objects that were loaded by mistake, with all of their rows; `dry_run` only counts them.

        Needs a key with the scope `admin`. `SendResult.receipts` has the objects of a send; requests of other clients may
        share them. It is not tried again, because a second attempt would not find what the first has withdrawn.

        Raises ObjectNotFoundError for an object that does not exist: then nothing is withdrawn.
        """
        response = self._requests.send(
            "POST",
            "/v1/withdrawals",
            retry=Retry(0.0, frozenset()),
            errors=WITHDRAWAL_ERRORS,
            json={"objects": [*objects], "dry_run": dry_run},
        )
        return decode(response.content, list[Withdrawal], response)


def _segment(text: str) -> str:
    """Return text as one segment of a path. Dots are encoded too, because `..` would name the segment above."""
    return quote(text, safe="").replace(".", "%2E")


def _parameter(value: Any) -> str:
    """Return a value as the text of a query parameter."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)


def _incomplete(result: Rows, advice: str) -> QueryError:
    return QueryError(
        f"The query has more rows than the {len(result)} that the server returns. {advice}, or let it return fewer."
    )


def _min_receipt(receipts: Receipt | Sequence[Receipt]) -> dict[str, str]:
    """Write receipts as the header that makes a query wait for their events."""
    places = [receipts] if isinstance(receipts, Receipt) else receipts
    named = ", ".join(f"{quote(receipt.object)}/{receipt.last_row}" for receipt in places)
    return {"lakehouse-min-receipt": named} if named else {}
