"""One line of JSON each way between processes of this machine. What is said is theirs."""

import json
import socket
import time
from typing import Any

ASK_SECONDS = 2.0
"""How long either side waits for the other to say its line."""

MOST_BYTES = 4 << 20


def write_line(channel: socket.socket, content: dict[str, Any]) -> None:
    """Send it. Raises OSError."""
    channel.sendall(json.dumps(content).encode() + b"\n")


def read_line(channel: socket.socket, seconds: float) -> dict[str, Any]:
    """What the other side says. Raises OSError where that takes longer, ValueError where it is no such line."""
    deadline, found = time.monotonic() + seconds, b""
    while not found.endswith(b"\n"):
        channel.settimeout(max(deadline - time.monotonic(), 0.001))
        if not (more := channel.recv(1 << 16)) or len(found) > MOST_BYTES:
            raise ValueError("the line ended before its end")
        found += more
    said = json.loads(found)
    if not isinstance(said, dict):
        raise ValueError("not an object")
    return said
