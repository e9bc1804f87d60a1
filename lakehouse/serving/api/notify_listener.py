"""Receive the gateway's notifications of landed objects. They say only where to look; the object itself has the events."""

import asyncio
from typing import Any

import msgspec

from lakehouse.serving.query.snapshot_tracker import SnapshotTracker
from lakehouse.sources.http.notify import LandingNotification

_DECODER = msgspec.json.Decoder(LandingNotification)


class NotifyListener(asyncio.DatagramProtocol):
    """Pass notifications of landed objects to the snapshot tracker."""

    def __init__(self, tracker: SnapshotTracker) -> None:
        self._tracker = tracker

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Handle one datagram. Invalid ones are ignored, because any program on this machine can send them."""
        try:
            landing = _DECODER.decode(data).landing()
        except msgspec.DecodeError:
            return
        if landing is not None:
            self._tracker.notify(landing)


async def listen(tracker: SnapshotTracker, host: str, port: int) -> asyncio.BaseTransport:
    """Listen for notifications until the returned transport is closed. Raises OSError if the port is taken."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: NotifyListener(tracker), local_addr=(host, port))
    return transport
