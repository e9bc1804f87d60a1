"""Messages reach real receivers, whatever those do, once each and in order; a killed process loses none."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lakehouse.alerting import delivery, queue
from lakehouse.alerting.config import AlertsConfig
from lakehouse.alerting.message import Cause, Message, failed_run
from lakehouse.alerting.queue import send_waiting
from lakehouse.alerting.store import AlertStore, Waiting, report
from lakehouse.processes.child import python_command, spawn
from lakehouse.processes.ports import free_port
from lakehouse_tests.alerting.conftest import Alerts, HttpReceiver, SmtpReceiver
from lakehouse_tests.cli.conftest import run
from lakehouse_tests.forked import ForkedServer
from lakehouse_tests.waiting import until

CAUSE = Cause(
    kind="partition_blocked", key="iot", severity="critical", summary="<b>*Rows*</b> of iot & more", action="Look.",
    stream="iot", owner="ops",
)  # fmt: skip


def message(number: int = 1, state: str = "open", cause: Cause = CAUSE) -> Message:
    at = "2026-11-20T12:00:00+00:00"
    return Message(id=f"id{number}", state=state, cause=cause, since=at, at=at)  # type: ignore[arg-type]


def enqueue(store: AlertStore, receiver: str, *messages: Message) -> None:
    with store.transaction() as transaction:
        for each in messages:
            transaction.enqueue(receiver, each, time.time(), 0.0, 0)


def send_until(store: AlertStore, config: AlertsConfig, is_done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Send what waits until the condition holds."""

    async def send() -> None:
        sending = asyncio.create_task(send_waiting(store, config))
        deadline = time.monotonic() + seconds
        while not is_done():
            assert time.monotonic() < deadline, [(each.receiver, each.error) for each in store.waiting()]
            assert not sending.done(), sending.exception()
            await asyncio.sleep(0.02)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    asyncio.run(send())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(queue, "FIRST_RETRY_SECONDS", 0.1)


def test_each_kind_of_receiver_gets_its_own_form(
    alerts: Alerts, http: HttpReceiver, smtp: SmtpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SLACK": "/slack",
        "TEAMS": "/teams",
        "KEY": "routing-key",
        "MAIL": "pass-word",
        "TOKEN": "t1",
    }.items():
        monkeypatch.setenv(name, value)
    settings, config = alerts(f"""
        [receivers.slack]
        kind = "slack"
        url = "{http.url}${{SLACK}}"
        [receivers.teams]
        kind = "teams"
        url = "{http.url}${{TEAMS}}"
        [receivers.duty]
        kind = "pagerduty"
        routing_key = "${{KEY}}"
        url = "{http.url}/duty"
        [receivers.hook]
        kind = "webhook"
        url = "{http.url}/hook"
        headers = {{Authorization = "Bearer ${{TOKEN}}"}}
        [receivers.mail]
        kind = "email"
        host = "127.0.0.1"
        port = {smtp.port}
        security = "none"
        from = "lake@example.com"
        to = ["data@example.com"]
        user = "lake"
        password = "${{MAIL}}"
        """)
    store = AlertStore(settings)
    for name in config.receivers:
        enqueue(store, name, message(1), message(2, "resolved"))
    send_until(store, config, lambda: not store.waiting())
    bodies = {path: [body for p, _, body in http.accepted if p == path] for path, _, _ in http.accepted}
    assert bodies["/slack"][0]["text"].splitlines()[0] == "[CRITICAL] &lt;b&gt;*Rows*&lt;/b&gt; of iot &amp; more"
    assert bodies["/slack"][1]["text"].startswith("[RESOLVED]")
    card = bodies["/teams"][0]["attachments"][0]["content"]
    assert (card["type"], card["body"][0]["text"]) == ("AdaptiveCard", "\\[CRITICAL\\] <b>\\*Rows\\*</b> of iot & more")
    assert [(body["routing_key"], body["event_action"], body["dedup_key"]) for body in bodies["/duty"]] == [
        ("routing-key", "trigger", "lakehouse/partition_blocked/iot"),
        ("routing-key", "resolve", "lakehouse/partition_blocked/iot"),
    ]
    assert bodies["/duty"][0]["payload"]["severity"] == "critical"
    assert {name: bodies["/hook"][0][name] for name in ("cause", "state", "stream", "owner", "id")} == {
        "cause": "partition_blocked", "state": "open", "stream": "iot", "owner": "ops", "id": "id1",
    }  # fmt: skip
    sent = next(headers for path, headers, _ in http.accepted if path == "/hook")
    assert (sent["Authorization"], sent["Idempotency-Key"]) == ("Bearer t1", "id1")
    assert [(mail["To"], mail["Message-ID"]) for mail in smtp.mails] == [
        ("data@example.com", "<id1@lakehouse>"),
        ("data@example.com", "<id2@lakehouse>"),
    ]
    assert smtp.mails[0]["Subject"] == "[CRITICAL] <b>*Rows*</b> of iot & more"
    assert smtp.mails[0].get_content().splitlines()[2:] == [
        "Since: 2026-11-20T12:00:00+00:00", "Stream: iot", "Owner: ops", "Do: Look.",
    ]  # fmt: skip


HOOK = '[receivers.a]\nkind = "webhook"\nurl = "{}/a"\n[receivers.b]\nkind = "webhook"\nurl = "{}/b"\n'


def test_receiver_that_refuses_gets_the_message_again_and_in_order(alerts: Alerts, http: HttpReceiver) -> None:
    settings, config = alerts(HOOK.format(http.url, http.url))
    store = AlertStore(settings)
    enqueue(store, "a", message(1), message(2, "resolved"))
    http.answers = [(500, {}), (429, {"retry-after": "1"}), (302, {"location": "/else"})]
    started = time.monotonic()
    send_until(store, config, lambda: not store.waiting())
    assert [body["id"] for body in http.bodies] == ["id1", "id2"]
    assert time.monotonic() - started > 1, "Retry-After is kept"
    assert store.sent_counts() == [("a", 2, 3)]


def test_receiver_that_is_down_gets_everything_when_it_is_back(alerts: Alerts, http: HttpReceiver) -> None:
    port = free_port()
    settings, config = alerts(HOOK.format(f"http://127.0.0.1:{port}", http.url))
    store = AlertStore(settings)
    enqueue(store, "a", message(1))
    enqueue(store, "b", message(2))
    send_until(store, config, lambda: store.sent_counts() == [("a", 0, 2), ("b", 1, 0)])
    assert [(each.receiver, each.error) for each in store.waiting()] == [("a", "All connection attempts failed")]
    settings, back = alerts(HOOK.format(http.url, http.url))
    send_until(store, back, lambda: not store.waiting())
    assert sorted(body["id"] for body in http.bodies) == ["id1", "id2"]


def test_receiver_that_hangs_delays_no_other(
    alerts: Alerts, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DEADLINE_SECONDS", 1.0)
    settings, config = alerts(HOOK.format(http.url, http.url))
    store = AlertStore(settings)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            for _ in range(40):
                handler.wfile.write(b"H")
                time.sleep(0.1)

    http.answers = [drip]
    enqueue(store, "a", message(1))
    send_until(store, config, lambda: http.attempts == 1)
    enqueue(store, "b", message(2))
    http.answers = [drip]
    started = time.monotonic()

    send_until(store, config, lambda: bool(http.bodies))
    assert time.monotonic() - started < 5
    send_until(store, config, lambda: not store.waiting())
    assert sorted(body["id"] for body in http.bodies) == ["id1", "id2"]


@pytest.mark.parametrize("greeting", [b"", b"2"])
def test_mail_server_that_hangs_is_cut_off(alerts: Alerts, monkeypatch: pytest.MonkeyPatch, greeting: bytes) -> None:
    monkeypatch.setattr(delivery, "DEADLINE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                while greeting:
                    connection.sendall(greeting)
                    time.sleep(0.1)
                connection.recv(1)

        threading.Thread(target=drip, daemon=True).start()
        settings, config = alerts(
            '[receivers.a]\nkind = "email"\nhost = "127.0.0.1"\nfrom = "a@b"\nto = ["c@d"]\nsecurity = "none"\n'
            f"port = {server.getsockname()[1]}\n"
        )
        store = AlertStore(settings)
        enqueue(store, "a", message())
        send_until(store, config, lambda: store.sent_counts() == [("a", 0, 1)], seconds=5)


def test_refused_address_delays_no_other(alerts: Alerts, smtp: SmtpReceiver) -> None:
    smtp.refused = {"gone@example.com"}
    settings, config = alerts(
        '[receivers.a]\nkind = "email"\nhost = "127.0.0.1"\nfrom = "a@b"\nto = ["gone@example.com", "data@example.com"]\n'
        f'security = "none"\nport = {smtp.port}\n'
    )
    store = AlertStore(settings)
    for receiver in config.receivers:
        enqueue(store, receiver, message())
    send_until(store, config, lambda: [c for _, c, _ in store.sent_counts()] == [1, 0])
    assert [mail["To"] for mail in smtp.mails] == ["data@example.com"]
    assert "no such user" in str(store.waiting()[0].error)


def test_secret_that_a_receiver_repeats_is_not_kept(
    alerts: Alerts, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLACK", "/services/secret-path")
    settings, config = alerts(f'[receivers.a]\nkind = "slack"\nurl = "{http.url}${{SLACK}}"\n')
    store = AlertStore(settings)
    http.answers = [(404, {})]
    enqueue(store, "a", message())
    send_until(store, config, lambda: store.sent_counts() == [("a", 0, 1)])
    assert store.waiting()[0].error == "answered 404 no: ***"
    assert "secret-path" not in caplog.text


def test_killed_process_loses_no_message_and_repeats_only_what_was_not_recorded(
    alerts: Alerts, http: HttpReceiver, tmp_path: Path
) -> None:
    """Killed while a receiver has a message and has not answered, it sends it again with the same id, which is all it can do."""
    settings, _ = alerts(f'[receivers.a]\nkind = "webhook"\nurl = "{http.url}/a"\n')
    variables = {
        "LAKEHOUSE_HOME": str(settings.root),
        "LAKEHOUSE_ALERTS": str(settings.alerts),
        "LAKEHOUSE_PROJECT": "none",
    }
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    got, release = threading.Event(), threading.Event()

    def take_and_wait(handler: BaseHTTPRequestHandler) -> None:
        got.set()
        release.wait(60)

    http.answers = [take_and_wait]
    report(settings, "run 1", failed_run("refresh", "iot", error="x"))
    first = ForkedServer(python_command("lakehouse.alerting"), tmp_path / "log", env=mine | variables)
    assert got.wait(60), (tmp_path / "log").read_text()
    (waiting,) = AlertStore(settings).waiting()
    os.kill(first.pid, 9)
    first.wait()
    report(settings, "run 1", failed_run("refresh", "iot", error="x"))
    report(settings, "run 2", failed_run("bronze", "iot", error="y"))
    second = ForkedServer(python_command("lakehouse.alerting"), tmp_path / "log", env=mine | variables)
    until(lambda: len(http.bodies) == 2)
    until(lambda: not AlertStore(settings).waiting())
    os.kill(second.pid, 9)
    second.wait()
    release.set()
    assert waiting.message.id in [body["id"] for body in http.bodies]
    assert sorted(body["error"] for body in http.bodies) == ["x", "y"]


def test_second_process_is_refused(alerts: Alerts, tmp_path: Path) -> None:
    settings, _ = alerts('[receivers.a]\nkind = "webhook"\nurl = "http://127.0.0.1:9/a"\n')
    env = os.environ | {"LAKEHOUSE_HOME": str(settings.root), "LAKEHOUSE_ALERTS": str(settings.alerts)}
    first = spawn(python_command("lakehouse.alerting"), tmp_path / "log", env=env)
    try:
        until(lambda: (settings.root / "alerts" / "state.db").exists())
        done = run(settings.root, "alerts", "run", LAKEHOUSE_ALERTS=str(settings.alerts))
        assert (done.returncode, done.stderr[:46]) == (1, "lakehouse: Another process sends the alerts of")
    finally:
        first.kill()
        first.wait()


def test_command_tests_each_receiver_and_names_those_that_fail(
    alerts: Alerts, http: HttpReceiver, tmp_path: Path
) -> None:
    settings, _ = alerts(HOOK.format(http.url, f"http://127.0.0.1:{free_port()}"))
    done = run(settings.root, "alerts", "test", LAKEHOUSE_ALERTS=str(settings.alerts))
    assert (done.returncode, done.stdout) == (1, "a: accepted\nb: failed: All connection attempts failed\n")
    assert done.stderr == "1 of 2 receivers failed: b.\n"
    assert [body["state"] for body in http.bodies] == ["test"]
    alerts(HOOK.format(http.url, http.url))
    done = run(settings.root, "alerts", "test", "--json", LAKEHOUSE_ALERTS=str(settings.alerts))
    assert (done.returncode, [row["ok"] for row in json.loads(done.stdout)]) == (0, [True, True])
    done = run(settings.root, "alerts", "test")
    assert (done.returncode, done.stderr[:32]) == (1, "lakehouse: There is no receiver.")


def test_command_lists_open_causes_and_waiting_messages(alerts: Alerts) -> None:
    settings, _ = alerts(HOOK.format("http://127.0.0.1:9", "http://127.0.0.1:9"))
    assert run(settings.root, "alerts", "list", "--json").stdout == '{"causes": [], "waiting": []}\n'
    assert not settings.root.exists(), "looking makes nothing"
    enqueue(AlertStore(settings), "a", message())
    listed = json.loads(run(settings.root, "alerts", "list", "--json").stdout)
    assert listed["causes"] == []
    assert [(row["receiver"], row["attempts"], row["error"]) for row in listed["waiting"]] == [("a", 0, None)]


def test_wrong_file_stops_up_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text("[receivers.a]\nkind = 'fax'\n")
    done = run(tmp_path / "home", "up", "--detach", LAKEHOUSE_ALERTS=str(file))
    assert (done.returncode, done.stderr) == (
        1,
        f"lakehouse: {file}: line 2: receivers.a.kind must be one of slack, teams, pagerduty, email, webhook.\n",
    )
    assert not (tmp_path / "home" / "storage").exists()


def test_message_that_is_sent_while_the_store_is_asked_is_sent_once(
    alerts: Alerts, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, config = alerts(f"""
        [receivers.hook]
        kind = "webhook"
        url = "{http.url}/hook"
        """)
    store = AlertStore(settings)
    enqueue(store, "hook", *(message(number) for number in range(5)))
    due = store.due

    def due_slowly(now: float) -> list[Waiting]:
        answer = due(now)
        time.sleep(0.1)
        return answer

    monkeypatch.setattr(queue, "POLL_SECONDS", 0)
    monkeypatch.setattr(store, "due", due_slowly)
    send_until(store, config, lambda: not store.waiting())
    assert len(http.accepted) == 5
