"""The hot tail of a test, which the serving process would hold."""

from collections.abc import Iterator

import pytest

from lakehouse.landing.listing import list_days
from lakehouse.serving.query.hot_tail import HotTail
from lakehouse.serving.query.linked_tail import LakeWithTail
from lakehouse_tests.pipeline.own import EARLY, LATE, Own


class Tail:
    """The hot tail of a test: `read` makes it hold all that landed and realtime lacks."""

    def __init__(self, own: Own) -> None:
        self.own = own
        self.tail = HotTail(own.lake, max_bytes=64 << 20)

    def read(self) -> None:
        self.drop()
        landed = [
            obj for objects in list_days(self.own.lake.objects, self.own.name, EARLY, LATE).values() for obj in objects
        ]
        self.tail.add(self.tail.read(landed))

    def drop(self) -> None:
        """Drop what realtime holds."""
        self.tail.drop_committed(
            self.tail.find_committed({self.own.name: self.own.lake.tables.load(f"realtime.{self.own.name}")})
        )

    @property
    def lake(self) -> LakeWithTail:
        return LakeWithTail(self.own.lake, self.tail.files())


@pytest.fixture
def tail(own: Own) -> Iterator[Tail]:
    tail = Tail(own)
    yield tail
    tail.tail.close()
