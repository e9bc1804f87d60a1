"""Messages between processes of this machine: one line of JSON each way."""

import json
import socket
import time
from typing import Any

ASK_SECONDS = 2.0
"""How long either side waits for the other's line."""

MAX_LINE_BYTES = 4 << 20


def write_line(channel: socket.socket, content: dict[str, Any]) -> None:
    """Send a message. Raises OSError."""
    channel.sendall(json.dumps(content).encode() + b"\n")


def read_line(channel: socket.socket, seconds: float) -> dict[str, Any]:
    """Receive a message. Raises OSError if it takes longer than `seconds`, ValueError if it is not a line of JSON."""
    deadline, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        channel.settimeout(max(deadline - time.monotonic(), 0.001))
        if not (more := channel.recv(1 << 16)) or len(line) > MAX_LINE_BYTES:
            raise ValueError("the line ended before its end")
        line += more
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message
