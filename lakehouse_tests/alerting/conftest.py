"""Real receivers of alerts on this machine: an HTTP server and an SMTP server that can fail in many ways."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from lakehouse.alerting.config import AlertsConfig, load_alerts
from lakehouse.processes.ports import free_port
from lakehouse.settings import Settings


class HttpReceiver:
    """An HTTP server that keeps what it accepts. `answers` are the next ones: a status with headers, or a function."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, Mapping[str, str], Any]] = []
        self.attempts = 0
        self.answers: list[tuple[int, Mapping[str, str]] | Callable[[BaseHTTPRequestHandler], None]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.attempts += 1
                answer = receiver.answers.pop(0) if receiver.answers else (200, {})
                if callable(answer):
                    answer(self)
                    return
                status, headers = answer
                if status < 300:
                    receiver.accepted.append((self.path, dict(self.headers.items()), json.loads(body)))
                text = f"no: {self.path}".encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name of the base class
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.accepted]

    @property
    def texts(self) -> list[str]:
        return [body["text"] for body in self.bodies]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class SmtpReceiver:
    """An SMTP server that keeps mails, and asks for a password."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refused: set[str] = set()
        """Addresses that it does not know."""
        self.controller = Controller(
            self, hostname="127.0.0.1", port=free_port(), authenticator=self._check, auth_require_tls=False
        )
        self.controller.start()

    @property
    def port(self) -> int:
        return int(self.controller.port)

    def _check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"lake", b"pass-word")
        return AuthResult(success=is_right)

    async def handle_RCPT(  # noqa: N802  # the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 accepted"


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()
    yield receiver
    receiver.close()


@pytest.fixture
def smtp() -> Iterator[SmtpReceiver]:
    receiver = SmtpReceiver()
    yield receiver
    receiver.controller.stop()


Alerts = Callable[[str], tuple[Settings, AlertsConfig]]


@pytest.fixture
def alerts(tmp_path: Path) -> Alerts:
    """Write an alerts file, and return the settings of a home that uses it, with what it says."""

    def write(text: str) -> tuple[Settings, AlertsConfig]:
        file = tmp_path / "alerts.toml"
        file.write_text(text)
        settings = Settings(home=tmp_path / "home", alerts=file)
        config = load_alerts(settings, ("iot", "retail"))
        assert config is not None
        return settings, config

    return write
