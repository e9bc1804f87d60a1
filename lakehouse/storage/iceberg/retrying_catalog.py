"""The REST catalog, asked with patience: every request ends, and one that got no proper answer is sent again.

Sending a commit again is safe: it names the snapshot it builds on, so it can't be taken twice. If the first did arrive
the second is refused, and pyiceberg then finds its own snapshot in the table and knows that it is done.
"""

import random
import time
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from requests import PreparedRequest, Response, Session, exceptions
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 15.0
FIRST_SECONDS = 3.0
"""For which who has not heard from the server yet waits for somebody to listen at its address: most likely nobody will."""

FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0
BUSY = frozenset({429, 500, 502, 503, 504})
NO_ANSWER = (
    exceptions.ConnectionError,
    exceptions.Timeout,
    exceptions.ChunkedEncodingError,
    exceptions.ContentDecodingError,
)


class PatientCatalog(RestCatalog):
    """pyiceberg's REST catalog over connections that are patient (it has no way to be given any)."""

    def _config_headers(self, session: Session) -> None:
        # The first thing that is done to a session, before it logs in.
        super()._config_headers(session)
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Patient(float(self.properties["answer-seconds"])))


class _Patient(HTTPAdapter):
    """Sends a request again until it is answered whole, for a while; pyiceberg itself would wait for ever."""

    def __init__(self, answer_seconds: float) -> None:
        super().__init__()
        self._timeout = CONNECT_SECONDS, answer_seconds
        self._heard = False

    def send(self, request: PreparedRequest, stream: bool = False, timeout: Any = None, **more: Any) -> Response:  # type: ignore[override]
        begun, wait = time.monotonic(), FIRST_WAIT
        while True:
            try:
                response = super().send(request, stream, timeout or self._timeout, **more)
                self._heard = True
                if not stream:
                    _ = response.content  # cut answers are seen here
                if response.status_code not in BUSY or time.monotonic() > begun + RETRY_SECONDS:
                    return response
            except NO_ANSWER as problem:
                patience = RETRY_SECONDS if self._heard or not _is_refused(problem) else FIRST_SECONDS
                if time.monotonic() > begun + patience:
                    raise
            time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
            wait = min(wait * 2, LONGEST_WAIT)


def _is_refused(problem: Exception) -> bool:
    """Whether nobody listens there."""
    cause = problem.args[0] if problem.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
