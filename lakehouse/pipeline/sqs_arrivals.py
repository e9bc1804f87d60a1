"""Track the files that queue messages report until bronze holds them; only then are their messages deleted."""

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lakehouse.contracts.streams import Stream
from lakehouse.landing.incoming import FOLDER, is_left_out
from lakehouse.landing.keys import LandingObject, arrival_time
from lakehouse.pipeline.bronze import ingested_objects
from lakehouse.pipeline.lake import Lake
from lakehouse.sources.sqs.inbox import Inbox, keys_in
from lakehouse.sources.sqs.messages import CreatedObject

MAX_CONCURRENT_REQUESTS = 8


class Arrivals:
    """The queue of one lake, and what storage knows of the files that its messages report."""

    def __init__(self, lake: Lake, inbox: Inbox) -> None:
        self._lake = lake
        self.inbox = inbox
        self._files: dict[str, LandingObject | None] = {}

    def pending_files(self) -> dict[str, list[LandingObject]]:
        """List the reported files that bronze has not ingested, by stream.

        Messages about all other objects are deleted: ingested files, files that are gone, empty or left out, and
        objects outside a stream's folder. Raises LakehouseError if the queue can't be used.
        """
        written = self._keys(self.inbox.receive())
        wanted = self._keys(self.inbox.objects)
        self._files = {key: file for key, file in self._files.items() if key in wanted and key not in written}
        self._files |= self._look_up(wanted - self._files.keys())
        by_stream: dict[str, list[LandingObject]] = defaultdict(list)
        for file in self._files.values():
            if file is not None:
                by_stream[file.stream].append(file)
        pending = {name: self._not_ingested(self._lake.streams[name], files) for name, files in by_stream.items()}
        keys = {file.key for files in pending.values() for file in files}
        self.inbox.delete_ingested(partial(self._is_settled, keys))
        return {name: files for name, files in pending.items() if files}

    def _keys(self, objects: Iterable[CreatedObject]) -> set[str]:
        keys = keys_in(objects, self._lake.connection.bucket, FOLDER)
        return {key for key in keys if _stream_of(key) in self._lake.streams}

    def _is_settled(self, pending: set[str], obj: CreatedObject) -> bool:
        return obj.bucket != self._lake.connection.bucket or obj.key not in pending

    def _look_up(self, keys: set[str]) -> dict[str, LandingObject | None]:
        with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
            return dict(zip(keys, pool.map(self._head, keys), strict=True))

    def _head(self, key: str) -> LandingObject | None:
        """Describe a file as a landing object; None if it is gone, empty or left out."""
        info = self._lake.objects.head(key)
        if info is None or not info.size or is_left_out(self._lake.objects, key):
            return None
        return LandingObject(key, _stream_of(key), arrival_time(key, info.modified), info.size)

    def _not_ingested(self, stream: Stream, files: list[LandingObject]) -> list[LandingObject]:
        table = self._lake.tables.load(f"bronze.{stream.name}")
        ingested = ingested_objects(self._lake, table, sorted({file.day for file in files}))
        return sorted(file for file in files if file.key not in ingested)


def _stream_of(key: str) -> str:
    return key.split("/", 2)[1]
