"""A live feed goes on after its last event when the connection is lost, until the server rejects it."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from lakehouse.client import feed
from lakehouse.client.client import Client
from lakehouse.errors import AuthenticationError


class _Feed(BaseHTTPRequestHandler):
    """Sends two events after the last one that the client has, then breaks off; the third request is rejected."""

    last_ids: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        last_id = self.headers["last-event-id"]
        self.last_ids.append(last_id)
        if len(self.last_ids) > 2:
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", "1000")
        self.end_headers()
        first = int(last_id or 0) + 1
        for number in (first, first + 1):
            self.wfile.write(f': alive\n\nid: {number}\nevent: alert\ndata: {{"n":\ndata: {number}}}\n\n'.encode())

    def log_request(self, *_: object) -> None:
        pass


def test_feed_goes_on_after_its_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RECONNECT_SECONDS", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Feed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            alerts = client.follow_alerts()
            assert [next(alerts)["n"] for _ in range(4)] == [1, 2, 3, 4]
            with pytest.raises(AuthenticationError):
                next(alerts)
        server.shutdown()
    assert _Feed.last_ids == [None, "2", "4"]
