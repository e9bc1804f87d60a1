"""The retry policy of storage requests: exponential back-off with jitter, for a limited time.

The S3 client retries most requests itself, see `objects.store`. `pipeline.writing` recomputes a commit that lost to
another writer.
"""

from typing import Any

from tenacity import RetryCallState, Retrying, stop_after_delay, wait_random_exponential
from tenacity.retry import retry_base
from tenacity.stop import StopBaseT

RETRY_SECONDS = 15.0
"""A server that restarts may take several seconds to answer again."""

FIRST_WAIT_SECONDS = 0.05
MAX_WAIT_SECONDS = 2.0


def retrying(condition: retry_base, *, stop: StopBaseT | None = None) -> Retrying:
    """Return a retry loop that calls a function again while `condition` holds, for at most RETRY_SECONDS.

    `stop` replaces that limit. At the limit the loop returns or raises what the last attempt did.
    """
    return Retrying(
        retry=condition,
        stop=stop or stop_after_delay(RETRY_SECONDS),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=MAX_WAIT_SECONDS),
        retry_error_callback=_last_outcome,
    )


def _last_outcome(state: RetryCallState) -> Any:
    assert state.outcome is not None, "an attempt was made"
    return state.outcome.result()
