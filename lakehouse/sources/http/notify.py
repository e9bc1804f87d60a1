"""Notify the serving process of landed objects, so that their events are visible at once.

Each notification is a UDP datagram to the serving process's own port number. A lost one is made up for by listing.
"""

import socket
from contextlib import suppress
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from lakehouse.http.proxy import Forwarder
from lakehouse.landing.keys import LandingObject, hour_of
from lakehouse.landing.shared import section_of


class LandingNotification(msgspec.Struct):
    """A landed object, as the datagram describes it."""

    key: str
    stream: str
    arrived_at: datetime
    size: int
    shared_key: str | None = None
    """Key of the shared object that it is a section of."""

    def landing(self) -> LandingObject | None:
        """Return the landing object. None if the datagram contradicts itself: any program on this machine can send one."""
        if not self.key.startswith(f"realtime/{self.stream}/") or hour_of(self.key) is None:
            return None
        if self.shared_key is None:
            return LandingObject(self.key, self.stream, self.arrived_at, self.size)
        section = section_of(self.shared_key, self.stream)
        return section if section and section.key == self.key else None


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
            notification = LandingNotification(
                landing.key, landing.stream, landing.arrived_at, landing.size, landing.shared_key
            )
            with suppress(OSError):
                self._socket.sendto(msgspec.json.encode(notification), (url.hostname, url.port))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
