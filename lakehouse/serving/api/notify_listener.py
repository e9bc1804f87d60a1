"""Hears from the HTTP server that an object has landed. What is heard is only where to look: the object says the rest."""

import asyncio
from typing import Any

import msgspec

from lakehouse.landing.keys import hour_of
from lakehouse.serving.query.lake_snapshot import SnapshotTracker
from lakehouse.sources.http.notify import LandingNotification

HINT = msgspec.json.Decoder(LandingNotification)


class Listener(asyncio.DatagramProtocol):
    """Passes hints of landed objects on."""

    def __init__(self, tracker: SnapshotTracker) -> None:
        self._tracker = tracker

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """One hint; what is none is passed over, for anybody on this machine could have sent it."""
        try:
            hint = HINT.decode(data)
        except msgspec.DecodeError:
            return
        if hint.key.startswith(f"realtime/{hint.stream}/") and hour_of(hint.key) is not None:
            self._tracker.notify(hint.landing())


async def listen(tracker: SnapshotTracker, host: str, port: int) -> asyncio.BaseTransport:
    """Listen for datagrams; whoever closes what this gives ends it. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Listener(tracker), local_addr=(host, port))
    return transport
