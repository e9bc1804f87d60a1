"""The types of an alerts file: receivers and rules. See `config` for how a file is read and checked."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

CauseKind = Literal[
    "run_failure",
    "data_late",
    "partition_blocked",
    "audit_finding",
    "daemon_down",
    "process_down",
    "ingest_down",
    "metrics_old",
    "table_unreadable",
    "stream_alert",
    "receiver_down",
]
CAUSE_KINDS: tuple[CauseKind, ...] = get_args(CauseKind)

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
"""PagerDuty's Events API v2 in the United States."""


class Slack(msgspec.Struct, frozen=True, tag_field="kind", tag="slack", forbid_unknown_fields=True):
    """An incoming webhook of Slack."""

    url: str


class Teams(msgspec.Struct, frozen=True, tag_field="kind", tag="teams", forbid_unknown_fields=True):
    """A workflow of Microsoft Teams that starts when a webhook request is received."""

    url: str


class PagerDuty(msgspec.Struct, frozen=True, tag_field="kind", tag="pagerduty", forbid_unknown_fields=True):
    """A service of PagerDuty, by its Events API v2."""

    routing_key: str
    url: str = PAGERDUTY_URL


class Email(
    msgspec.Struct, frozen=True, tag_field="kind", tag="email", forbid_unknown_fields=True, rename={"sender": "from"}
):
    """Addresses of e-mail, by a server that speaks SMTP."""

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: str | None = None


class Webhook(msgspec.Struct, frozen=True, tag_field="kind", tag="webhook", forbid_unknown_fields=True):
    """A URL that receives messages as JSON."""

    url: str
    headers: Mapping[str, str] = {}


Receiver = Slack | Teams | PagerDuty | Email | Webhook
RECEIVERS: Mapping[str, type[Receiver]] = {
    "slack": Slack,
    "teams": Teams,
    "pagerduty": PagerDuty,
    "email": Email,
    "webhook": Webhook,
}

SECRETS: Mapping[str, tuple[str, ...]] = {
    "slack": ("url",),
    "teams": ("url",),
    "pagerduty": ("routing_key",),
    "email": ("password",),
    "webhook": (),
}
"""Fields by kind that a file may name a variable for, but not hold."""


class RuleTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule as the file has it."""

    receivers: tuple[str, ...]
    causes: tuple[CauseKind, ...] = CAUSE_KINDS
    severity: Severity = "info"
    streams: tuple[str, ...] | None = None
    owners: tuple[str, ...] | None = None
    hours: str | None = None
    days: tuple[Weekday, ...] = WEEKDAYS
    timezone: str = "UTC"
    repeat_minutes: float | None = None


class AlertsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file's own fields. Receivers and rules are checked one by one, so that a message names them."""

    receivers: dict[str, Any]
    rules: list[Any] = []
    repeat_minutes: float = 240.0
    quiet_minutes: float = 60.0
