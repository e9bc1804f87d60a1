"""A process that reads Kinesis and dies at the write that it is told."""

from collections.abc import Callable
from typing import Any

from lakehouse.sources.kinesis.shards import StreamReader
from lakehouse.storage.objects.store import Objects


class Crash(BaseException):
    """The end of the process, wherever it is."""


class Dying(Objects):
    """A bucket whose client dies at the call that it is told, before the server has it or after."""

    at = -1
    after = False
    ends: type[BaseException] = Crash
    calls = 0

    def _maybe(self, action: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self.at:
            if self.after:
                action()
            raise self.ends("the line is cut")
        return action()

    def put(self, *words: Any, **more: Any) -> bool:
        return bool(self._maybe(lambda: Objects.put(self, *words, **more)))

    def get(self, key: str) -> bytes:
        return bytes(self._maybe(lambda: Objects.get(self, key)))


def turns(reader: StreamReader, rounds: int) -> None:
    if not reader.is_open:
        reader.open()
    for _ in range(rounds):
        for shard in list(reader.readable()):
            reader.turn(shard)
        if reader.is_stale:
            reader.list_shards()
