"""The endpoint from which a container of ECS gets the temporary keys of its role, as AWS's SDKs ask it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple


class TemporaryKeys(NamedTuple):
    """Keys of a role with the token that belongs to them."""

    key_id: str
    secret: str
    token: str


@contextmanager
def container_role(keys: Callable[[], TemporaryKeys]) -> Iterator[str]:
    """Serve what `keys` returns, valid for an hour, and yield the URL for AWS_CONTAINER_CREDENTIALS_FULL_URI."""

    class Endpoint(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            current = keys()
            content = json.dumps(
                {
                    "AccessKeyId": current.key_id,
                    "SecretAccessKey": current.secret,
                    "Token": current.token,
                    "Expiration": f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
                }
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/role"
    finally:
        server.shutdown()
        server.server_close()
