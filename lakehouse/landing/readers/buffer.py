"""A part of an object's text that moves from its start to its end, for readers that look ahead."""

from collections.abc import Iterator

from lakehouse.landing.readers.content import Damage
from lakehouse.landing.readers.rows import Defect
from lakehouse.landing.readers.text import escaped


class Window:
    """What is left of the text is `data[at:]` and, unless `ended`, more that `fill` brings in.

    `torn` is the last line of an object that breaks off.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._damage: str | None = None
        self._dropped = 0
        self.torn = b""
        self._lines = True
        self.data = b""
        self.at = 0
        self.ended = False

    @property
    def size(self) -> int:
        """Bytes at hand."""
        return len(self.data) - self.at

    @property
    def place(self) -> int:
        """Bytes of the text before those at hand."""
        return self._dropped + self.at

    def fill(self, size: int, more: int = 0) -> bool:
        """Have at least so many bytes at hand if the object has them, and when it comes to reading, `more` beside.

        Returns whether there are any.
        """
        if self.size < size and not self.ended:
            parts, have = [self.data[self.at :]], self.size
            while have < size + more and not self.ended:
                part = self._next()
                parts.append(part)
                have += len(part)
            self._dropped += self.at
            self.data, self.at = b"".join(parts), 0
            if self._damage is not None and self._lines:
                # The last line is torn: what looks like a whole row of it may be half of one.
                cut = self.data.rfind(b"\n") + 1
                self.data, self.torn = self.data[:cut], self.data[cut:]
        return self.at < len(self.data)

    def _next(self) -> bytes:
        try:
            part = next(self._chunks, None)
        except Damage as damage:
            self._damage, part = str(damage), None
        self.ended = part is None
        return part or b""

    def line_end(self, most: int) -> int | None:
        """The place in `data` of the end of the line at hand; None when it is longer than `most`."""
        size = min(4096, most)
        while True:
            self.fill(size + 1)
            newline = self.data.find(b"\n", self.at, self.at + size + 1)
            if newline >= 0:
                return newline
            if self.ended and self.size <= size:
                return len(self.data)
            if size == most:
                return None
            size = min(size * 8, most)

    def skip_line(self) -> None:
        """Go to the start of the next line, however far it is."""
        while True:
            newline = self.data.find(b"\n", self.at)
            if newline >= 0:
                self.at = newline + 1
                return
            self.at = len(self.data)
            if not self.fill(1):
                return

    def damage(self) -> Defect | None:
        """At the end: what broke the object off, with the torn line."""
        if self._damage is None:
            return None
        return Defect(self._damage, escaped(self.torn) or None)

    def keep_torn_line(self) -> None:
        """Take the torn line as text like any other: there may be whole events in it."""
        self.data, self.torn, self._lines = self.data + self.torn, b"", False
