"""One request to the server: retried where that helps, and its errors as exceptions. See `client` for the API."""

import logging
import random
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import httpx
import msgspec
from tenacity import (
    RetryCallState,
    Retrying,
    before_sleep_log,
    retry_if_exception,
    sleep_using_event,
    stop_before_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)

from lakehouse.errors import (
    AuthenticationError,
    BusyError,
    LakehouseError,
    NotFoundError,
    PermissionDeniedError,
    RequestError,
    ServerUnreachableError,
    StorageUnavailableError,
    UnknownStreamError,
)

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
KEPT_CONNECTIONS = 64
RETRY_AFTER_JITTER = 0.1
"""Added to Retry-After as a share of it, so that many clients do not come back at one moment."""

ERRORS: Mapping[int, type[LakehouseError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: BusyError,
    502: ServerUnreachableError,
    503: StorageUnavailableError,
    504: ServerUnreachableError,
}
"""The exception of a status for which the route has none of its own; RequestError for all others."""

T = TypeVar("T")
ErrorTypes = Mapping[int, type[LakehouseError]]
NO_ERRORS: ErrorTypes = {}


@dataclass(frozen=True, slots=True)
class Retry:
    """The answers after which a request is sent again, and for how long. A server that does not answer counts as one."""

    seconds: float
    statuses: frozenset[int]
    after_timeout: bool = True
    """Whether it is sent again though the server may still be working on it."""


class Requests:
    """Sends requests to one server over a pool of connections. Safe to share between threads."""

    def __init__(self, url: str, key: str | None, *, certificate: Path | None, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        parsed = httpx.URL(self.url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{url!r} is not the URL of a server. Pass one such as http://127.0.0.1:8000.")
        self._http = httpx.Client(
            base_url=parsed,
            headers={"authorization": f"Bearer {key.strip()}"} if key and key.strip() else None,
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS),
            verify=_verify(certificate),
        )
        self._closed = Event()

    def check_open(self) -> None:
        """Raise RuntimeError if the client is closed."""
        if self._closed.is_set():
            raise RuntimeError("This client is closed. Create another one.")

    def end_retries(self) -> None:
        """End every request after its current attempt."""
        self._closed.set()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        retry: Retry,
        errors: ErrorTypes = NO_ERRORS,
        stop: Event | None = None,
        timeout: float | None = None,
        stream: bool = False,
        **request: Any,
    ) -> httpx.Response:
        """Send a request until it succeeds and return the answer. `errors` are the exceptions of this route by status.

        `stop` ends the attempts early. With `stream`, the body is still to be read, and the answer to be closed. Raises
        LakehouseError: the type by `errors` and `ERRORS`, or ServerUnreachableError.
        """
        self.check_open()
        if timeout is not None:
            request["timeout"] = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None)
        stop = stop or self._closed
        retrying = Retrying(
            retry=retry_if_exception(lambda error: _may_succeed_later(error, retry)),
            wait=_wait,
            stop=stop_before_delay(retry.seconds) | stop_when_event_set(stop) | stop_when_event_set(self._closed),
            sleep=sleep_using_event(stop),
            before_sleep=before_sleep_log(log, logging.INFO),
            reraise=True,
        )
        try:
            return retrying(self._send_once, method, path, errors, request, stream=stream)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise ServerUnreachableError(f"The server at {self.url} does not answer: {reason}") from error

    def _send_once(
        self, method: str, path: str, errors: ErrorTypes, request: Mapping[str, Any], *, stream: bool
    ) -> httpx.Response:
        response = self._http.send(self._http.build_request(method, path, **request), stream=stream)
        if response.is_success:
            return response
        response.read()
        raise _error(response, errors)


def decode(content: bytes | str, kind: type[T], response: httpx.Response) -> T:
    """Decode JSON of an answer. Raises RequestError if it is not of this kind, because another server answers."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        url = response.request.url.copy_with(query=None)
        raise RequestError(f"{url} does not answer as a lakehouse does: {error}. Check the URL.") from error


def _verify(certificate: Path | None) -> ssl.SSLContext | bool:
    if certificate is None:
        return True
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its issuer need not be known
    return context


def _error(response: httpx.Response, errors: ErrorTypes) -> LakehouseError:
    """Return the exception of an answer that is an error."""
    status = response.status_code
    problem = {"status": status, "title": response.reason_phrase, "detail": ""} | _problem_details(response)
    kind = errors.get(status) or ERRORS.get(status, RequestError)
    if kind is NotFoundError and problem.get("streams"):
        kind = UnknownStreamError
    detail = str(problem["detail"]) or f"{status} {problem['title']} at {response.request.url.path}"
    error = kind(detail)
    error.problem = problem
    error.retry_after = _retry_after(response.headers.get("retry-after", ""))
    return error


def _problem_details(response: httpx.Response) -> dict[str, Any]:
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _may_succeed_later(error: BaseException, retry: Retry) -> bool:
    """Return whether another attempt may succeed; not for a certificate that is not trusted, or a malformed request."""
    if isinstance(error, LakehouseError):
        return error.problem is not None and error.problem["status"] in retry.statuses
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return retry.after_timeout
    is_hopeless = isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
    untrusted = isinstance(error, httpx.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(error)
    return isinstance(error, httpx.TransportError) and not is_hopeless and not untrusted


_backoff = wait_exponential_jitter(multiplier=0.1, max=10, jitter=0.2)


def _wait(state: RetryCallState) -> float:
    """Return the seconds until the next attempt: what the server asks for in Retry-After, else an exponential backoff."""
    error = state.outcome.exception() if state.outcome else None
    retry_after = error.retry_after if isinstance(error, LakehouseError) else None
    if retry_after is None:
        return _backoff(state)
    return retry_after * (1 + random.uniform(0, RETRY_AFTER_JITTER))  # noqa: S311


def _retry_after(text: str) -> float | None:
    """Parse Retry-After, seconds or a date, into seconds from now; None if there is none."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - time.time())
