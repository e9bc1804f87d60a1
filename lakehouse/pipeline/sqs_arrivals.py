"""Files that the queue tells of, until bronze holds them. Then, and not before, their messages are deleted."""

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lakehouse.contracts.streams import Stream
from lakehouse.landing.keys import LandingObject, arrival_time
from lakehouse.pipeline.bronze import ingested_objects
from lakehouse.pipeline.lake import Lake
from lakehouse.sources.sqs.inbox import Inbox, keys_in
from lakehouse.sources.sqs.messages import CreatedObject

FOLDER = "incoming"
AT_ONCE = 8


class Arrivals:
    """The queue of one lake, and what storage says of the files it tells of."""

    def __init__(self, lake: Lake, inbox: Inbox) -> None:
        self._lake = lake
        self.inbox = inbox
        self._files: dict[str, LandingObject | None] = {}

    def new_files(self) -> dict[str, list[LandingObject]]:
        """The files that the queue tells of and bronze does not hold, by stream; others' messages are deleted.

        Messages about what is not there any longer, is empty, or is in no stream's folder are deleted too: bronze has
        nothing to take. Raises LakehouseError when the queue can't be used.
        """
        written = self._keys(self.inbox.receive())
        wanted = self._keys(self.inbox.objects)
        self._files = {key: file for key, file in self._files.items() if key in wanted and key not in written}
        self._files |= self._looked_up(wanted - self._files.keys())
        by_stream: dict[str, list[LandingObject]] = defaultdict(list)
        for file in self._files.values():
            if file is not None:
                by_stream[file.stream].append(file)
        found = {name: self._not_held(self._lake.streams[name], files) for name, files in by_stream.items()}
        waiting = {file.key for files in found.values() for file in files}
        self.inbox.delete_ingested(partial(self._is_safe, waiting))
        return {name: files for name, files in found.items() if files}

    def _keys(self, objects: Iterable[CreatedObject]) -> set[str]:
        keys = keys_in(objects, self._lake.connection.bucket, FOLDER)
        return {key for key in keys if _stream_of(key) in self._lake.streams}

    def _is_safe(self, waiting: set[str], one: CreatedObject) -> bool:
        return one.bucket != self._lake.connection.bucket or one.key not in waiting

    def _looked_up(self, keys: set[str]) -> dict[str, LandingObject | None]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(keys, pool.map(self._look_up, keys), strict=True))

    def _look_up(self, key: str) -> LandingObject | None:
        info = self._lake.objects.head(key)
        if info is None or not info.size:
            return None
        return LandingObject(key, _stream_of(key), arrival_time(key, info.modified), info.size)

    def _not_held(self, stream: Stream, files: list[LandingObject]) -> list[LandingObject]:
        table = self._lake.tables.load(f"bronze.{stream.name}")
        held = ingested_objects(self._lake, table, sorted({file.day for file in files}))
        return sorted(file for file in files if file.key not in held)


def _stream_of(key: str) -> str:
    return key.split("/", 2)[1]
