"""Follow a live feed of server-sent events, and connect again where it broke off."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from httpx_sse import EventSource, SSEError

from lakehouse.client.requests import Requests, Retry, decode
from lakehouse.errors import RequestError

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


def follow(requests: Requests, path: str, params: Mapping[str, str], retry: Retry) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each event, without an end. After a lost connection, the server goes on after the last event.

    Raises LakehouseError if the server rejects the request, or can't be reached again for the time of `retry`.
    """
    last_id = ""
    while True:
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        response = requests.send("GET", path, retry=retry, stream=True, params=params, headers=headers)
        try:
            for event in EventSource(response).iter_sse():
                last_id = event.id or last_id
                if event.data:  # not a comment that keeps the connection alive
                    yield decode(event.data, dict[str, Any], response)
        except httpx.TransportError as error:
            log.info("The feed %s broke off: %s", path, error)
        except SSEError as error:
            raise RequestError(f"{requests.url}{path} does not answer as a lakehouse does: {error}.") from error
        finally:
            response.close()
        time.sleep(RECONNECT_SECONDS)
