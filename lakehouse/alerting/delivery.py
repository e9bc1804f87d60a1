"""Deliver a message to a receiver, in the form that it reads. See `queue` for how often that is tried."""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parsedate_to_datetime
from threading import Timer
from typing import Any

import httpx

from lakehouse.alerting.message import Message
from lakehouse.alerting.schema import Email, PagerDuty, Receiver, Slack, Teams, Webhook

DEADLINE_SECONDS = 15.0
"""How long a receiver may take to accept a message."""

MAX_RETRY_SECONDS = 3600.0
"""The longest wait that a receiver may ask for."""

MAX_ANSWER_BYTES = 300
MAX_TEXT_CHARACTERS = 3000
"""Slack cuts texts off beyond, and PagerDuty refuses messages of 512 KiB."""


class DeliveryError(Exception):
    """A receiver has not accepted a message. The text says why, and may have secrets that must be redacted."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds after which the receiver asks for another attempt."""


async def deliver(client: httpx.AsyncClient, receiver: Receiver, message: Message) -> None:
    """Deliver a message. Raises DeliveryError if the receiver does not accept it in time."""
    if isinstance(receiver, Email):
        await asyncio.to_thread(_send_mail, receiver, message)
        return
    request = render(receiver, message)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await _post(client, request)
    except TimeoutError:
        raise DeliveryError(f"no answer within {DEADLINE_SECONDS:.0f} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise DeliveryError(str(error) or type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class Request:
    """A message as a receiver's HTTP request."""

    url: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


def render(receiver: Slack | Teams | PagerDuty | Webhook, message: Message) -> Request:
    """Write a message in the form of a receiver."""
    match receiver:
        case Slack():
            return Request(receiver.url, {"text": _slack_text(message)}, {})
        case Teams():
            return Request(receiver.url, _adaptive_card(message), {})
        case PagerDuty():
            return Request(receiver.url, _pagerduty_event(receiver, message), {})
        case Webhook():
            return Request(receiver.url, message.as_json(), {**receiver.headers, "Idempotency-Key": message.id})


async def _post(client: httpx.AsyncClient, request: Request) -> None:
    async with client.stream("POST", request.url, json=request.body, headers=dict(request.headers)) as response:
        if response.is_success:
            return
        answer = b""
        async for part in response.aiter_raw():
            answer += part
            if len(answer) >= MAX_ANSWER_BYTES:
                break
        text = " ".join(answer[:MAX_ANSWER_BYTES].decode(errors="replace").split())
        raise DeliveryError(
            f"answered {response.status_code} {text}".strip(), _retry_after(response.headers.get("retry-after"))
        )


def _retry_after(value: str | None) -> float | None:
    """Parse the header Retry-After, which has seconds or a date: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_SECONDS) if seconds == seconds else None


def _slack_text(message: Message) -> str:
    """Write Slack's mrkdwn, with its three control characters escaped: https://docs.slack.dev/messaging/formatting-message-text."""
    text = _cut("\n".join([message.title, *message.lines]))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _adaptive_card(message: Message) -> dict[str, Any]:
    """Write an Adaptive Card as workflows of Teams take it: https://adaptivecards.io/explorer/TextBlock.html."""
    color = {"critical": "attention", "warning": "warning", "info": "accent"}[message.cause.severity]
    title = {"type": "TextBlock", "text": _plain(message.title), "weight": "bolder", "wrap": True}
    title["color"] = "good" if message.state == "resolved" else color
    lines = [{"type": "TextBlock", "text": _plain(line), "wrap": True, "spacing": "small"} for line in message.lines]
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, *lines],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def _plain(text: str) -> str:
    """Keep a text from being read as Markdown."""
    return "".join(f"\\{sign}" if sign in "\\*_[]`#" else sign for sign in _cut(text))


def _pagerduty_event(receiver: PagerDuty, message: Message) -> dict[str, Any]:
    """Write an event: https://developer.pagerduty.com/docs/events-api-v2/trigger-events."""
    cause = message.cause
    event: dict[str, Any] = {
        "routing_key": receiver.routing_key,
        "event_action": "resolve" if message.state == "resolved" else "trigger",
        "dedup_key": f"lakehouse/{cause.kind}/{cause.key}"[:255],
    }
    if message.state == "resolved":
        return event
    payload = {
        "summary": message.title[:1024],
        "source": socket.gethostname(),
        "severity": cause.severity,
        "timestamp": message.at,
        "class": cause.kind,
        "group": cause.stream or "lakehouse",
        "custom_details": {"text": _cut("\n".join(message.lines))},
    }
    return {**event, "payload": payload}


def _mail(receiver: Email, message: Message) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = receiver.sender, ", ".join(receiver.to), message.title[:200]
    mail["Date"] = format_datetime(datetime.fromisoformat(message.at))
    mail["Message-ID"] = f"<{message.id}@lakehouse>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join([message.title, "", *message.lines, ""]))
    return mail


class _TimedConnection(smtplib.SMTP):
    """A connection that is cut off after the deadline. Its own timeout is that of one read, however many there are."""

    timer: Timer | None = None

    def connect(self, *address: Any, **options: Any) -> tuple[int, bytes]:
        self.timer = Timer(DEADLINE_SECONDS, self._cut_off)
        self.timer.daemon = True
        self.timer.start()
        try:
            return super().connect(*address, **options)
        except BaseException:
            self.timer.cancel()
            raise

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        super().close()

    def _cut_off(self) -> None:
        with suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


class _TimedTlsConnection(_TimedConnection, smtplib.SMTP_SSL):
    """The same over TLS from the start."""


def _send_mail(receiver: Email, message: Message) -> None:
    secure = ssl.create_default_context()
    address = receiver.host, receiver.port
    try:
        with (
            _TimedTlsConnection(*address, timeout=DEADLINE_SECONDS, context=secure)
            if receiver.security == "tls"
            else _TimedConnection(*address, timeout=DEADLINE_SECONDS)
        ) as server:
            if receiver.security == "starttls":
                server.starttls(context=secure)
            if receiver.user is not None and receiver.password is not None:
                server.login(receiver.user, receiver.password)
            server.send_message(_mail(receiver, message))
    except (OSError, smtplib.SMTPException) as error:
        raise DeliveryError(" ".join(str(error).split()) or type(error).__name__) from error


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[: MAX_TEXT_CHARACTERS - 2]} …"
