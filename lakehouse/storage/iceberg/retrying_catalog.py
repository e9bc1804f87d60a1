"""A REST catalog client whose requests time out and are retried.

Retrying a commit is safe because it names the snapshot that it builds on, so it can't be applied twice. If the first
request did succeed, the second is refused; pyiceberg then finds its own snapshot in the table and treats it as done.
"""

from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from requests import PreparedRequest, Response, Session, exceptions
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, retry_if_exception_type, retry_if_result
from urllib3.exceptions import MaxRetryError, NewConnectionError

from lakehouse.storage import retry
from lakehouse.storage.retry import retrying

CONNECT_SECONDS = 5.0
FIRST_CONNECT_SECONDS = 3.0
"""How long to retry a refused connection to a server that never answered before: most likely none is running."""

RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
RETRIED_ERRORS = (
    exceptions.ConnectionError,
    exceptions.Timeout,
    exceptions.ChunkedEncodingError,
    exceptions.ContentDecodingError,
)


class RetryingCatalog(RestCatalog):
    """pyiceberg's REST catalog with retrying HTTP connections, which pyiceberg has no option for."""

    def _config_headers(self, session: Session) -> None:
        # Overridden because it is the first call with the session, before the login request.
        super()._config_headers(session)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _RetryingAdapter(float(self.properties["answer-seconds"])))


class _RetryingAdapter(HTTPAdapter):
    """Sends a request until the answer arrives whole. pyiceberg alone would wait for one forever."""

    def __init__(self, answer_seconds: float) -> None:
        super().__init__()
        self._timeout = CONNECT_SECONDS, answer_seconds
        self._was_answered = False

    def send(self, request: PreparedRequest, stream: bool = False, timeout: Any = None, **options: Any) -> Response:  # type: ignore[override]
        """Send a request. Raises the last attempt's error, or returns its response."""

        def attempt() -> Response:
            response = super(_RetryingAdapter, self).send(request, stream, timeout or self._timeout, **options)
            self._was_answered = True
            if not stream:
                _ = response.content  # raises if the answer was cut off
            return response

        condition = retry_if_exception_type(RETRIED_ERRORS) | retry_if_result(_is_busy)
        return retrying(condition, stop=self._is_over)(attempt)

    def _is_over(self, state: RetryCallState) -> bool:
        assert state.outcome is not None, "an attempt was made"
        is_absent = not self._was_answered and _is_refused(state.outcome.exception())
        return (state.seconds_since_start or 0.0) >= (FIRST_CONNECT_SECONDS if is_absent else retry.RETRY_SECONDS)


def _is_busy(response: Response) -> bool:
    return response.status_code in RETRIED_STATUS


def _is_refused(error: BaseException | None) -> bool:
    """Return whether no server listens at the address."""
    cause = error.args[0] if error and error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
