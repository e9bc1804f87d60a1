"""Send the messages that wait. A receiver that does not accept one gets it again, later and later, until it does."""

import asyncio
import logging
import time

import httpx

from lakehouse.alerting.config import AlertsConfig
from lakehouse.alerting.delivery import DEADLINE_SECONDS, DeliveryError, deliver
from lakehouse.alerting.store import AlertStore, Waiting

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
FIRST_RETRY_SECONDS = 2.0
MAX_BACKOFF_SECONDS = 300.0


async def send_waiting(store: AlertStore, config: AlertsConfig) -> None:
    """Send messages as they become due, until cancelled. A receiver that hangs delays no other."""
    busy: dict[str, asyncio.Task[None]] = {}
    async with http_client() as client:
        while True:
            # Before the store is asked: a message that is sent while it answers may be in its answer.
            for receiver in [name for name, task in busy.items() if task.done()]:
                busy.pop(receiver).result()
            free = config.receivers.keys() - busy.keys()
            for waiting in await asyncio.to_thread(store.due, time.time()):
                if waiting.receiver in free:
                    free.discard(waiting.receiver)
                    busy[waiting.receiver] = asyncio.create_task(_send(store, config, client, waiting))
            await asyncio.sleep(POLL_SECONDS)


def http_client() -> httpx.AsyncClient:
    """Return a client that follows no redirects, because they would send a secret elsewhere. It does not log URLs."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # because its lines have URLs, which may be secrets
    return httpx.AsyncClient(timeout=DEADLINE_SECONDS, follow_redirects=False)


async def _send(store: AlertStore, config: AlertsConfig, client: httpx.AsyncClient, waiting: Waiting) -> None:
    """Send a message, then drop it. Killed in between, it is sent twice: the receiver can't be asked whether it has it."""
    try:
        await deliver(client, config.receivers[waiting.receiver], waiting.message)
    except DeliveryError as error:
        reason = config.redact(str(error))
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(waiting.attempts, 30), MAX_BACKOFF_SECONDS)
        pause = pause if error.retry_after is None else max(error.retry_after, 1.0)
        log.warning("%s: %s; tried again in %.0f s: %s", waiting.receiver, reason, pause, waiting.message.title)
        await asyncio.to_thread(store.mark_failed, waiting, time.time() + pause, reason)
    else:
        log.info("%s: sent: %s", waiting.receiver, waiting.message.title)
        await asyncio.to_thread(store.mark_sent, waiting)
