"""Hints to the serving process that an object has landed, so that its events are to be seen at once.

A datagram each, to the port whose number is that of the serving process's own; one that is lost is made up for by listing.
"""

import socket
from contextlib import suppress
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from lakehouse.http.proxy import Forwarder
from lakehouse.landing.keys import LandingObject


class LandingNotification(msgspec.Struct):
    """An object that has landed."""

    key: str
    stream: str
    arrived_at: datetime
    size: int

    def landing(self) -> LandingObject:
        """What it tells of."""
        return LandingObject(self.key, self.stream, self.arrived_at, self.size)


class LandingNotifier:
    """Tells of landed objects; waits for nothing and knows of no failure."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def tell(self, landing: LandingObject) -> None:
        """Tell the serving process, if there is one."""
        url = urlsplit(self._forwarder.address() or "")
        if url.hostname and url.port:
            content = msgspec.json.encode(
                LandingNotification(landing.key, landing.stream, landing.arrived_at, landing.size)
            )
            with suppress(OSError):
                self._socket.sendto(content, (url.hostname, url.port))

    def close(self) -> None:
        """Tell no more."""
        self._socket.close()
