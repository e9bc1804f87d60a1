"""Read and check an alerts file: receivers, and rules that say which of them gets a message about what."""

import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec

from lakehouse.alerting.hours import Hours, parse_hours
from lakehouse.alerting.schema import (
    RECEIVERS,
    SECRETS,
    SEVERITIES,
    AlertsTable,
    CauseKind,
    Email,
    Receiver,
    RuleTable,
    Severity,
    Webhook,
)
from lakehouse.errors import LakehouseError
from lakehouse.project import VARIABLES_FILE
from lakehouse.settings import Settings

T = TypeVar("T")

WEBHOOK_RECEIVER = "webhook_url"
"""The name of the receiver that LAKEHOUSE_WEBHOOK_URL makes."""

_REFERENCE = re.compile(r"\$\{(\w*)\}")
_SECRET_HEADER = re.compile(r"authorization|cookie|key|password|secret|token", re.IGNORECASE)
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_ADDRESS = re.compile(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """Which causes some receivers get messages about, in which hours, and how often again."""

    receivers: tuple[str, ...]
    causes: Collection[CauseKind]
    severity: Severity
    """The least severity."""
    streams: Collection[str] | None
    """None for all, and for causes that concern no stream."""
    owners: Collection[str] | None
    hours: Hours
    repeat_seconds: float

    def matches(self, kind: CauseKind, severity: Severity, stream: str | None, owner: str | None) -> bool:
        """Return whether the rule is about such a cause."""
        return (
            kind in self.causes
            and SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)
            and (self.streams is None or stream in self.streams)
            and (self.owners is None or owner in self.owners)
        )


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """The receivers by name, and the rules. An e-mail receiver of several addresses is one receiver for each."""

    receivers: Mapping[str, Receiver]
    rules: Sequence[Rule]
    quiet_seconds: float = 3600.0
    """After this time without a new one, a stream's alerts of one kind count as over."""
    secrets: Collection[str] = field(default=(), repr=False)
    """Texts that no message or log may have."""

    def redact(self, text: str) -> str:
        """Replace secrets in a text."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def load_alerts(settings: Settings, streams: Collection[str] | None = None) -> AlertsConfig | None:
    """Read the receivers and rules of the settings; None if there is no receiver.

    `streams` are those that rules may name; with None, they may name any, because a contract that is wrong today is one of
    a stream all the same.

    Raises LakehouseError, which names the file, the line, the field and what is allowed.
    """
    config = None if settings.alerts is None else _File(settings.alerts, settings).read(streams)
    if settings.webhook_url is None:
        return config
    if (reason := _url_fault(settings.webhook_url)) is not None:
        raise LakehouseError(f"LAKEHOUSE_WEBHOOK_URL {reason}.")
    config = config or AlertsConfig({}, [])
    causes: tuple[CauseKind, ...] = ("run_failure",)
    rule = Rule((WEBHOOK_RECEIVER,), causes, "info", None, None, _all_day(), AlertsTable({}).repeat_minutes * 60)
    return AlertsConfig(
        {**config.receivers, WEBHOOK_RECEIVER: Webhook(settings.webhook_url)},
        [*config.rules, rule],
        config.quiet_seconds,
        {*config.secrets, settings.webhook_url},
    )


def _all_day() -> Hours:
    return parse_hours(None, RuleTable(()).days, ZoneInfo("UTC"))


class _File:
    """An alerts file that is being read."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._text = ""
        self._variables = {**os.environ, **_secrets_of(settings)}
        self._secrets: set[str] = set()

    def read(self, streams: Collection[str] | None) -> AlertsConfig:
        try:
            self._text = self._path.read_text(encoding="utf-8")
            content = tomllib.loads(self._text)
        except (OSError, ValueError) as error:
            raise LakehouseError(f"{self._path}: can't be read as TOML: {error}.") from error
        table = self._convert(content, AlertsTable, "")
        for name, minutes in {"repeat_minutes": table.repeat_minutes, "quiet_minutes": table.quiet_minutes}.items():
            self._check_minutes(name, minutes)
        if not table.receivers:
            self._refuse("receivers", "has none; write a table such as [receivers.team] with kind and url")
        by_name: dict[str, dict[str, Receiver]] = {}
        for name, value in table.receivers.items():
            by_name[name] = self._receivers(name, value)
        names = {name: tuple(receivers) for name, receivers in by_name.items()}
        rules = [self._rule(number, value, names, streams, table) for number, value in enumerate(table.rules)]
        everything = Rule(
            tuple(name for group in names.values() for name in group),
            RuleTable(()).causes, "info", None, None, _all_day(), table.repeat_minutes * 60,
        )  # fmt: skip
        receivers = {name: receiver for group in by_name.values() for name, receiver in group.items()}
        return AlertsConfig(receivers, rules or [everything], table.quiet_minutes * 60, frozenset(self._secrets))

    def _receivers(self, name: str, value: Any) -> dict[str, Receiver]:
        place = f"receivers.{name}"
        if not re.fullmatch(r"[\w-]+", name) or name == WEBHOOK_RECEIVER:
            self._refuse(
                place, f"can't be the name of a receiver; use letters, digits, - and _, and not {WEBHOOK_RECEIVER}"
            )
        if not isinstance(value, dict) or value.get("kind") not in SECRETS:
            self._refuse(f"{place}.kind", f"must be one of {', '.join(SECRETS)}")
        receiver: Receiver = self._convert(
            self._resolved(value, place, SECRETS[value["kind"]]), RECEIVERS[value["kind"]], place
        )
        if isinstance(receiver, Email):
            self._check_email(receiver, place)
            if len(receiver.to) > 1:  # each has its own queue, because one may be refused while another is accepted
                return {f"{name} {to}": msgspec.structs.replace(receiver, to=(to,)) for to in receiver.to}
        elif (reason := _url_fault(receiver.url)) is not None:
            self._refuse(f"{place}.url", reason)
        return {name: receiver}

    def _resolved(self, table: Mapping[str, Any], place: str, secret: Collection[str]) -> dict[str, Any]:
        """Replace references to variables by their values, and refuse secrets that the file itself has."""
        values: dict[str, Any] = {}
        for name, value in table.items():
            where = f"{place}.{name}"
            if isinstance(value, dict):
                values[name] = self._resolved(value, where, [key for key in value if _SECRET_HEADER.search(key)])
            elif isinstance(value, str):
                values[name] = self._text_of(value, where, is_secret=name in secret)
            else:
                values[name] = value
        return values

    def _text_of(self, value: str, where: str, *, is_secret: bool) -> str:
        names = _REFERENCE.findall(value)
        if not names and (is_secret or _has_password(value)):
            variable = re.sub(r"\W", "_", where.removeprefix("receivers.")).upper()
            self._refuse(
                where, f"is a secret; set it as a variable, such as {variable}, in the environment or in {VARIABLES_FILE},"
                f' and write "${{{variable}}}" here',
            )  # fmt: skip
        for name in names:
            if not self._variables.get(name):
                self._refuse(
                    where, f"names the variable {name!r}, which is not set; set it in the environment, in {VARIABLES_FILE}"
                    " or in LAKEHOUSE_ALERT_SECRETS",
                )  # fmt: skip
        self._secrets.update(self._variables[name] for name in names)
        return _REFERENCE.sub(lambda match: self._variables[match[1]], value)

    def _check_email(self, receiver: Email, place: str) -> None:
        for name, addresses in {"from": [receiver.sender], "to": receiver.to}.items():
            if not addresses or not all(map(_ADDRESS.fullmatch, addresses)):
                self._refuse(f"{place}.{name}", "must be addresses such as data@example.com")
        if not 1 <= receiver.port <= 65535:
            self._refuse(f"{place}.port", "must be from 1 to 65535")
        if (receiver.user is None) != (receiver.password is None):
            self._refuse(f"{place}.user", "and password go together; set both or none")
        if receiver.password and receiver.security == "none" and not _is_loopback(receiver.host):
            self._refuse(
                f"{place}.security", 'is none, so the password would be readable on its way; write "starttls" or "tls"'
            )

    def _rule(
        self,
        number: int,
        value: Any,
        names: Mapping[str, tuple[str, ...]],
        streams: Collection[str] | None,
        table: AlertsTable,
    ) -> Rule:
        place = f"rules[{number}]"
        rule = self._convert(value, RuleTable, place)
        self._check_known(f"{place}.receivers", rule.receivers, names)
        if rule.streams is not None and streams is not None:
            self._check_known(f"{place}.streams", rule.streams, streams)
        for name in ("receivers", "causes", "streams", "owners", "days"):
            if getattr(rule, name) == ():
                self._refuse(f"{place}.{name}", "is empty; name some, or leave the line out")
        try:
            zone = ZoneInfo(rule.timezone)
        except (OSError, ValueError, KeyError):
            self._refuse(f"{place}.timezone", "is no zone; write one such as Europe/Berlin")
        try:
            hours = parse_hours(rule.hours, rule.days, zone)
        except ValueError as error:
            self._refuse(f"{place}.hours", str(error))
        minutes = table.repeat_minutes if rule.repeat_minutes is None else rule.repeat_minutes
        self._check_minutes(f"{place}.repeat_minutes", minutes)
        receivers = tuple(each for name in rule.receivers for each in names[name])
        return Rule(receivers, rule.causes, rule.severity, rule.streams, rule.owners, hours, minutes * 60)

    def _check_known(self, place: str, used: Collection[str], known: Collection[str]) -> None:
        if unknown := [name for name in used if name not in known]:
            self._refuse(place, f"names {', '.join(unknown)}; there are {', '.join(sorted(known))}")

    def _check_minutes(self, place: str, minutes: float) -> None:
        if not 0 < minutes <= 60 * 24 * 365:
            self._refuse(place, "must be more than 0 minutes, and at most a year")

    def _convert(self, value: Any, kind: type[T], place: str) -> T:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            text = str(error)
            below = _PATH.search(text)
            parts = [place, below[1] if below else "", *(re.findall("unknown field `(.*?)`", text))]
            self._refuse(".".join(filter(None, parts)).replace(".[", "["), f"is wrong: {_PATH.sub('', text)}")

    def _refuse(self, place: str, reason: str) -> NoReturn:
        raise LakehouseError(f"{self._path}: line {_line(self._text, place)}: {place or 'the file'} {reason}.")


def _secrets_of(settings: Settings) -> dict[str, str]:
    if settings.alert_secrets is None:
        return {}
    try:
        return msgspec.json.decode(settings.alert_secrets.get_secret_value(), type=dict[str, str])
    except msgspec.DecodeError:  # its message could hold a part of the secret
        raise LakehouseError(
            f"LAKEHOUSE_ALERT_SECRETS must be a JSON object of texts, such as {json.dumps({'SLACK_URL': 'https://…'})}."
        ) from None


def _line(text: str, place: str) -> int:
    """Find the line of a place such as `receivers.team.url` or `rules[1].hours`; that of its table if it has none."""
    table, number, name = "", 0, place
    if match := re.match(r"rules\[(\d+)\]\.?(.*)", place):
        table, number, name = r"\[\[\s*rules\s*\]\]", int(match[1]), match[2]
    elif match := re.match(r"receivers\.([^.]*)\.?(.*)", place):
        table, name = rf"\[\s*receivers\.\"?{re.escape(match[1])}\"?\s*[].]", match[2]
    lines = text.splitlines()
    heads = [index for index, line in enumerate(lines) if table and re.match(rf"\s*{table}", line)]
    start = heads[number] if number < len(heads) else 0
    key = re.split(r"[.\[]", name)[0]
    is_key = re.compile(rf"\s*\[*\s*\"?{re.escape(key)}\"?\s*[].=]") if key else None
    for index in range(start, len(lines)):
        if is_key is not None and is_key.match(lines[index]):
            return index + 1
        if index > start and re.match(r"\s*\[", lines[index]):
            break
    return start + 1


def _url_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    return (
        None
        if is_valid and not re.search(r"[\s\x00-\x1f]", url)
        else "must be a URL that begins with https:// or http://"
    )


def _has_password(text: str) -> bool:
    try:
        return bool(urlsplit(text).password)
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
