"""The process that evaluates causes and sends messages. `lakehouse up` runs it when there is a receiver."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from lakehouse.alerting.config import AlertsConfig, load_alerts
from lakehouse.alerting.evaluate import advance
from lakehouse.alerting.message import Message
from lakehouse.alerting.observations import Observation, observe, read_numbers, receiver_down
from lakehouse.alerting.queue import send_waiting
from lakehouse.alerting.store import AlertStore, Transaction
from lakehouse.alerting.stream_alerts import CURSOR, NewAlerts, quiet, read_new_alerts, take_new_alerts
from lakehouse.contracts.streams import Stream, discover, revision
from lakehouse.errors import LakehouseError
from lakehouse.http.published_metrics import publish, published
from lakehouse.processes.home import private_home
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

EVALUATE_SECONDS = 5.0
RECEIVER_DOWN_SECONDS = 600.0
"""After this time without success, the other receivers get a message about a receiver."""


def run_alerts(settings: Settings) -> None:
    """Evaluate causes and send messages until interrupted.

    Raises LakehouseError if there is no receiver, the file is wrong, or another process does it for this home.
    """
    config = configured(settings)
    with only_process(settings):
        asyncio.run(_run(settings, config))


def configured(settings: Settings, streams: Collection[str] | None = None) -> AlertsConfig:
    """Return the receivers and rules of the settings; see `load_alerts`. Raises LakehouseError if there are none."""
    config = load_alerts(settings, streams)
    if config is None:
        raise LakehouseError("There is no receiver. Set LAKEHOUSE_ALERTS to a file of receivers: docs/alerts.md.")
    return config


@contextmanager
def only_process(settings: Settings) -> Iterator[None]:
    """Make this process the only one that sends the home's alerts. Raises LakehouseError if another does."""
    folder = private_home(settings) / "alerts"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(folder / "process.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LakehouseError(
            f"Another process sends the alerts of {settings.root}, as `lakehouse up` does. See `lakehouse status`."
        ) from None
    try:
        yield
    finally:
        lock.release()


async def _run(settings: Settings, config: AlertsConfig) -> None:
    store = AlertStore(settings)
    with store.transaction() as transaction:
        for name in transaction.drop_removed_receivers([*config.receivers]):
            log.warning("Messages to %s are dropped, because the alerts file has no such receiver.", name)
    sending = asyncio.create_task(send_waiting(store, config))
    try:
        while True:
            if sending.done():
                sending.result()
            await asyncio.to_thread(_evaluate_safely, settings, store, config)
            await asyncio.sleep(EVALUATE_SECONDS)
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


@lru_cache(maxsize=1)
def _streams(folders: tuple[Path, ...], examples: bool) -> Mapping[str, Stream]:
    """Read the contracts again only when `lakehouse up` has accepted a change, which moves the folder."""
    return discover(folders, examples=examples)


def _evaluate_safely(settings: Settings, store: AlertStore, config: AlertsConfig) -> None:
    try:
        evaluate(settings, store, config, time.time())
        publish(settings, "alerts", alert_metrics(store))
    except Exception:  # one failed read must not end the alerts for good
        log.exception("could not evaluate causes")


def evaluate(settings: Settings, store: AlertStore, config: AlertsConfig, now: float) -> list[Message]:
    """Evaluate all causes once, and return the messages that were made."""
    streams = _streams(revision(settings.streams), settings.examples)
    observations = observe(read_numbers(published(settings)), now)
    new = _new_alerts(settings, store)
    with store.transaction() as transaction:
        if new is not None:
            fired = take_new_alerts(transaction, new, now)
            known = [row.cause for row in transaction.causes().values()]
            observations += [*fired, *quiet(known, fired)]
        observations = [*_reported(transaction, observations, now), *_receivers(transaction, config, now)]
        present = [each for each in observations if each.cause.stream is None or each.cause.stream in streams]
        present += _removed(transaction, streams, present)
        return advance(transaction, [_with_owner(each, streams) for each in present], config, now)


def _new_alerts(settings: Settings, store: AlertStore) -> NewAlerts | None:
    """Read new alerts of streams; None if the serving process can't be asked, which says nothing about them."""
    with store.transaction() as transaction:
        cursor = transaction.cursor(CURSOR)
    try:
        return read_new_alerts(settings, cursor)
    except (OSError, ValueError) as error:
        log.info("alerts of streams can't be read now: %s", error)
        return None


def _reported(transaction: Transaction, observations: list[Observation], now: float) -> list[Observation]:
    """Put what other processes have reported in place of what the numbers say of it, which are some seconds older."""
    reports = {
        (report.cause.kind, report.cause.key): Observation(report.cause, True, report.count)
        for report in transaction.take_reports(now)
    }
    rest = [each for each in observations if (each.cause.kind, each.cause.key) not in reports]
    return [*rest, *reports.values()]


def _receivers(transaction: Transaction, config: AlertsConfig, now: float) -> Iterator[Observation]:
    oldest = transaction.oldest_waiting()
    for name in config.receivers:
        made_at, error = oldest.get(name, (now, None))
        yield receiver_down(name, error, is_firing=now - made_at > RECEIVER_DOWN_SECONDS)


def _removed(
    transaction: Transaction, streams: Mapping[str, Stream], observations: list[Observation]
) -> list[Observation]:
    """Return that causes are gone whose stream, process or receiver there is no more."""
    kinds = {observation.cause.kind for observation in observations}
    places = {(observation.cause.kind, observation.cause.key) for observation in observations}
    return [
        Observation(row.cause, False)
        for (kind, key), row in transaction.causes().items()
        if (row.cause.stream is not None and row.cause.stream not in streams)
        or (kind in ("process_down", "receiver_down") and kind in kinds and (kind, key) not in places)
    ]


def _with_owner(observation: Observation, streams: Mapping[str, Stream]) -> Observation:
    stream = streams.get(observation.cause.stream or "")
    if stream is None:
        return observation
    cause = msgspec.structs.replace(observation.cause, owner=stream.contract.owner)
    return Observation(cause, observation.is_firing, observation.count)


def alert_metrics(store: AlertStore) -> Iterator[Metric]:
    """Measure open causes, and messages by receiver."""
    causes = GaugeMetricFamily("lakehouse_alert_causes", "Causes that are open.", labels=["cause", "severity"])
    counts: dict[tuple[str, str], int] = {}
    for row in store.open_causes():
        place: tuple[str, str] = row.cause.kind, row.cause.severity
        counts[place] = counts.get(place, 0) + 1
    for labels, count in counts.items():
        causes.add_metric(labels, count)
    waiting = GaugeMetricFamily("lakehouse_alert_messages_waiting", "Messages not sent yet.", labels=["receiver"])
    sent = CounterMetricFamily("lakehouse_alert_messages", "Messages sent.", labels=["receiver"])
    failures = CounterMetricFamily("lakehouse_alert_failures", "Attempts that failed.", labels=["receiver"])
    queued: dict[str, int] = {}
    for each in store.waiting():
        queued[each.receiver] = queued.get(each.receiver, 0) + 1
    for receiver, count in queued.items():
        waiting.add_metric([receiver], count)
    for receiver, sent_count, failure_count in store.sent_counts():
        sent.add_metric([receiver], sent_count)
        failures.add_metric([receiver], failure_count)
    yield from (causes, waiting, sent, failures)
