"""A storage client that crashes at a chosen call, and reading in rounds as `KinesisReader` does."""

from collections.abc import Callable
from typing import Any

from lakehouse.sources.kinesis.stream_reader import StreamReader
from lakehouse.storage.objects.store import Objects


class Crash(BaseException):
    """The end of the process, wherever it is."""


class CrashingObjects(Objects):
    """A bucket whose client raises `error` at call number `crash_at`, before the server gets the call or after it."""

    crash_at = -1
    after_call = False
    error: type[BaseException] = Crash
    calls = 0

    def _call(self, action: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self.crash_at:
            if self.after_call:
                action()
            raise self.error("the line is cut")
        return action()

    def put(self, *words: Any, **more: Any) -> bool:
        return bool(self._call(lambda: Objects.put(self, *words, **more)))

    def get(self, key: str) -> bytes:
        return bytes(self._call(lambda: Objects.get(self, key)))


def read_rounds(reader: StreamReader, rounds: int) -> None:
    if not reader.is_open:
        reader.open()
    for _ in range(rounds):
        for shard in list(reader.readable_shards()):
            reader.read_shard(shard)
        if reader.is_stale:
            reader.list_shards()
