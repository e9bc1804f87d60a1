"""A sliding buffer over an object's text, for readers that look ahead."""

from collections.abc import Iterator, Sequence

from lakehouse.landing.readers.content import DamagedContentError
from lakehouse.landing.readers.defects import Defect, escape


class TextBuffer:
    """The unread text at hand is `data[at:]`. Unless `ended`, `fill` reads more.

    `torn` is the last, incomplete line of an object whose content is damaged.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._damage: str | None = None
        self._dropped_bytes = 0
        self._cuts_torn_line = True
        self.torn = b""
        self.data = b""
        self.at = 0
        self.ended = False

    @property
    def size(self) -> int:
        """Unread bytes at hand."""
        return len(self.data) - self.at

    @property
    def offset(self) -> int:
        """Bytes of the text before those at hand."""
        return self._dropped_bytes + self.at

    def fill(self, size: int, more: int = 0) -> bool:
        """Read until at least `size` bytes are at hand, if the object has them. If it must read, it reads `more` besides.

        Returns whether any bytes are at hand.
        """
        if self.size < size and not self.ended:
            chunks, at_hand = [self.data[self.at :]], self.size
            while at_hand < size + more and not self.ended:
                chunk = self._next_chunk()
                chunks.append(chunk)
                at_hand += len(chunk)
            self._dropped_bytes += self.at
            self.data, self.at = b"".join(chunks), 0
            if self._damage is not None and self._cuts_torn_line:
                # Cut off the last line, because what looks like a whole row of it may be half of one.
                cut = max(self.data.rfind(b"\n"), self.data.rfind(b"\r")) + 1
                self.data, self.torn = self.data[:cut], self.data[cut:]
        return self.at < len(self.data)

    def _next_chunk(self) -> bytes:
        try:
            chunk = next(self._chunks, None)
        except DamagedContentError as error:
            self._damage, chunk = str(error), None
        self.ended = chunk is None
        return chunk or b""

    def line_end(self, max_bytes: int) -> int | None:
        """Find the end in `data` of the line at hand. None if the line is longer than `max_bytes`."""
        size = min(4096, max_bytes)
        while True:
            self.fill(size + 1)
            newline = self.data.find(b"\n", self.at, self.at + size + 1)
            if newline >= 0:
                return newline
            if self.ended and self.size <= size:
                return len(self.data)
            if size == max_bytes:
                return None
            size = min(size * 8, max_bytes)

    def skip_line(self, ends: Sequence[bytes] = (b"\n",)) -> None:
        """Move to the start of the next line, however far away it is. `ends` are the bytes that end a line."""
        while True:
            positions = [position for end in ends if (position := self.data.find(end, self.at)) >= 0]
            if positions:
                self.at = min(positions) + 1
                return
            self.at = len(self.data)
            if not self.fill(1):
                return

    def damage(self) -> Defect | None:
        """Return what damaged the object as a defect with the torn line. None if the object is sound so far."""
        if self._damage is None:
            return None
        return Defect(self._damage, escape(self.torn) or None)

    def keep_torn_line(self) -> None:
        """Treat the torn line as text like any other, because there may be whole events in it."""
        self.data, self.torn, self._cuts_torn_line = self.data + self.torn, b"", False
