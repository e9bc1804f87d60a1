"""Notify the serving process of landed objects, so that their events are visible at once.

Each notification is a UDP datagram to the serving process's own port number. A lost one is made up for by listing.
"""

import socket
from contextlib import suppress
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from lakehouse.http.proxy import Forwarder
from lakehouse.landing.keys import LandingObject


class LandingNotification(msgspec.Struct):
    """A landed object, as the datagram describes it."""

    key: str
    stream: str
    arrived_at: datetime
    size: int

    def landing(self) -> LandingObject:
        """Return the landing object."""
        return LandingObject(self.key, self.stream, self.arrived_at, self.size)


class LandingNotifier:
    """Sends notifications. Never blocks and never fails."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def notify(self, landing: LandingObject) -> None:
        """Notify the serving process of a landed object, if it runs."""
        url = urlsplit(self._forwarder.address() or "")
        if url.hostname and url.port:
            notification = LandingNotification(landing.key, landing.stream, landing.arrived_at, landing.size)
            with suppress(OSError):
                self._socket.sendto(msgspec.json.encode(notification), (url.hostname, url.port))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
