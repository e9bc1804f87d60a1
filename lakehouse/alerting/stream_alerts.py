"""The alerts of streams' own data, read from the serving process: one cause for a stream, kind and severity."""

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from lakehouse.alerting.message import Cause
from lakehouse.alerting.observations import Observation
from lakehouse.alerting.schema import SEVERITIES, Severity
from lakehouse.alerting.store import Transaction
from lakehouse.http.api_keys import local_key
from lakehouse.serving.api import server
from lakehouse.settings import Settings

CURSOR = "stream_alerts"
PAGE_ALERTS = 1000
MAX_PAGES = 20
"""Pages read at once. The rest is read by the next evaluations."""

MAX_NEWEST = 5
"""Alerts that a message quotes."""

READ_SECONDS = 20.0

HTTP_BAD_REQUEST = 400

AlertJson = Mapping[str, Any]


@dataclass(slots=True)
class NewAlerts:
    """Alerts that were raised since a cursor, and the cursor after them."""

    cursor: str | None
    alerts: list[AlertJson] = field(default_factory=list)


def read_new_alerts(settings: Settings, cursor: str | None) -> NewAlerts:
    """Read the alerts raised since a cursor; none without one, because those of the past are not news.

    Raises OSError if the serving process does not answer.
    """
    service = server.running(settings)
    if service is None:
        raise OSError("the serving process does not run")
    key, new = local_key(settings), NewAlerts(cursor)
    for _ in range(MAX_PAGES):
        query = {"limit": PAGE_ALERTS, **({} if new.cursor is None else {"since": new.cursor})}
        url = f"{service.url}/v1/alerts?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})  # noqa: S310 (our own URL)
        try:
            with urllib.request.urlopen(request, timeout=READ_SECONDS) as response:  # noqa: S310
                page = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == HTTP_BAD_REQUEST and new.cursor is not None:
                return NewAlerts(None, new.alerts)  # the cursor is another release's
            raise
        if cursor is None:
            return NewAlerts(page["next"])
        new.alerts += page["alerts"]
        new.cursor = page["next"]
        if not page["alerts"]:
            break
    return new


def take_new_alerts(transaction: Transaction, new: NewAlerts, now: float) -> list[Observation]:
    """Record alerts as seen, and return their causes. Alerts that were seen before, such as recomputed ones, are left out."""
    if new.cursor is not None and new.cursor != transaction.cursor(CURSOR):
        transaction.set_cursor(CURSOR, new.cursor)
    by_id = {_identity(alert): alert for alert in new.alerts}
    unseen = transaction.unseen([*by_id])
    if not unseen:
        return []
    transaction.add_seen(sorted(unseen), now)
    groups: dict[tuple[str, str, Severity], list[AlertJson]] = {}
    for alert_id, alert in by_id.items():
        if alert_id in unseen:
            severity = alert["severity"] if alert["severity"] in SEVERITIES else "critical"
            groups.setdefault((alert["stream"], alert["alert"], cast(Severity, severity)), []).append(alert)
    return [_observation(*group, alerts) for group, alerts in groups.items()]


def quiet(causes: Iterable[Cause], firing: Sequence[Observation]) -> list[Observation]:
    """Return that the stream alerts which have no new ones are gone."""
    keys = {observation.cause.key for observation in firing}
    return [Observation(cause, False) for cause in causes if cause.kind == "stream_alert" and cause.key not in keys]


def _observation(stream: str, kind: str, severity: Severity, alerts: list[AlertJson]) -> Observation:
    newest = [_line(alert) for alert in alerts[-MAX_NEWEST:]]
    first = alerts[-1]["message"] or newest[-1]
    cause = Cause(
        kind="stream_alert",
        key=f"{stream}/{kind}/{severity}",
        severity=severity,
        summary=f"{stream}: {kind}: {first}",
        action=f"GET /v1/alerts?stream={stream}, or the page, lists all.",
        stream=stream,
        details={"newest": newest},
    )
    return Observation(cause, True, len(alerts))


def _line(alert: AlertJson) -> str:
    parts = [alert["event_time"], alert["entity"], alert["message"]]
    if alert["value"] is not None:
        parts.append(f"value {alert['value']:g}")
    if alert["threshold"] is not None:
        parts.append(f"threshold {alert['threshold']:g}")
    return ", ".join(str(part) for part in parts if part is not None)


def _identity(alert: AlertJson) -> str:
    values = [alert[name] for name in ("stream", "alert", "dt", "entity", "event_key")]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
