"""`alerts`: what is wrong now, which messages wait, and whether each receiver can be reached."""

import asyncio
import socket
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import typer

from lakehouse.alerting.config import AlertsConfig
from lakehouse.alerting.delivery import DeliveryError, deliver
from lakehouse.alerting.message import Cause, Message
from lakehouse.alerting.process import configured, run_alerts
from lakehouse.alerting.queue import http_client
from lakehouse.alerting.store import AlertStore, store_path
from lakehouse.cli.options import Json
from lakehouse.cli.printing import print_json, print_table, print_text, stderr
from lakehouse.contracts.streams import discover
from lakehouse.errors import ContractError
from lakehouse.settings import Settings, get_settings

alerts = typer.Typer(no_args_is_help=True, add_completion=False)


@alerts.command("test")
def try_receivers(as_json: Json = False) -> None:
    """Send a message to each receiver. Exit with 1 and name those that do not accept it."""
    settings = get_settings()
    results = asyncio.run(_test(configured(settings, known_streams(settings))))
    if as_json:
        print_json([{"receiver": name, "ok": reason is None, "reason": reason} for name, reason in results.items()])
    else:
        for name, reason in results.items():
            print_text(f"{name}: {'accepted' if reason is None else f'failed: {reason}'}")
    failed = [name for name, reason in results.items() if reason is not None]
    if failed:
        print_text(f"{len(failed)} of {len(results)} receivers failed: {', '.join(failed)}.", to=stderr)
    raise SystemExit(1 if failed else 0)


def known_streams(settings: Settings) -> Collection[str] | None:
    """List the streams that rules may name; None while a contract is wrong, which other commands report."""
    try:
        return discover(settings.streams, examples=settings.examples)
    except ContractError:
        return None


async def _test(config: AlertsConfig) -> dict[str, str | None]:
    """Return why each receiver failed; None for one that has accepted the message."""
    async with http_client() as client:

        async def attempt(name: str) -> str | None:
            try:
                await deliver(client, config.receivers[name], _message(name))
            except DeliveryError as error:
                return config.redact(str(error))
            return None

        reasons = await asyncio.gather(*map(attempt, config.receivers))
    return dict(zip(config.receivers, reasons, strict=True))


def _message(receiver: str) -> Message:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    cause = Cause(
        kind="receiver_down",
        key=f"test {uuid4().hex}",
        severity="info",
        summary=f"The lakehouse on {socket.gethostname()} reaches the receiver {receiver}.",
        action="Nothing; `lakehouse alerts test` sent this.",
    )
    return Message(id=uuid4().hex, state="test", cause=cause, since=now, at=now)


@alerts.command("list")
def list_alerts(as_json: Json = False) -> None:
    """List the causes that are open, and the messages that wait to be sent."""
    settings = get_settings()
    store = AlertStore(settings) if store_path(settings).exists() else None
    causes = [
        {
            "cause": row.cause.kind,
            "severity": row.cause.severity,
            "since": _time(row.first_at),
            "stream": row.cause.stream,
            "owner": row.cause.owner,
            "what": row.cause.summary,
            "do": row.cause.action,
        }
        for row in (store.open_causes() if store else ())
    ]
    waiting = [
        {
            "receiver": each.receiver,
            "message": each.message.title,
            "made": _time(each.made_at),
            "next": _time(each.next_at),
            "attempts": each.attempts,
            "error": each.error,
        }
        for each in (store.waiting() if store else ())
    ]
    if as_json:
        print_json({"causes": causes, "waiting": waiting})
        return
    print_table("Open causes", ["since", "severity", "what", "do"], _cells(causes, "since", "severity", "what", "do"))
    columns = ["receiver", "message", "next", "attempts", "error"]
    print_table("Messages that wait", columns, _cells(waiting, *columns), ["attempts"])


@alerts.command("run")
def run() -> None:
    """Evaluate causes and send messages until stopped. `lakehouse up` does so by itself."""
    run_alerts(get_settings())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _cells(rows: Sequence[Mapping[str, object]], *columns: str) -> list[list[object]]:
    return [["" if row[column] is None else row[column] for column in columns] for row in rows]
