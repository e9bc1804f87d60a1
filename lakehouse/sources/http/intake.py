"""How each stream's events are read and checked at ingest, kept current while contracts change.

See `contracts.streams.revision` for how a process finds out.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lakehouse.contracts.model import Contract
from lakehouse.contracts.streams import Stream, discover, revision
from lakehouse.contracts.validator import Validator
from lakehouse.errors import LakehouseError
from lakehouse.landing.readers.envelope import Opener, opener_of
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

FOLLOW_INTERVAL_SECONDS = 0.1
"""Time between two checks of whether the streams have changed; a check costs a few microseconds."""


@dataclass(frozen=True, slots=True)
class Intake:
    """How the events of one stream are read and checked."""

    stream: Stream
    validator: Validator
    opener: Opener | None
    """The envelope reader, if the events come in envelopes."""


class Intakes:
    """The intakes of all streams. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Read the contracts. Raises ContractError if one is wrong."""
        self._settings = settings
        self._revision = revision(settings.streams)
        self.streams: dict[str, Stream] = {}
        """All streams by name: always the same dictionary."""
        self._intakes: dict[str, Intake] = {}
        self._replace(self._discover())

    @property
    def contracts(self) -> Mapping[str, Contract]:
        """The contract of each stream."""
        return {name: stream.contract for name, stream in self.streams.items()}

    def get(self, name: str) -> Intake | None:
        """Return the intake of a stream; None if there is no such stream."""
        return self._intakes.get(name)

    async def follow(self, on_change: Callable[[], None]) -> None:
        """Read the contracts again whenever they have changed, and call `on_change` then, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_INTERVAL_SECONDS)
            if (moved_to := revision(self._settings.streams)) == self._revision:
                continue
            self._revision = moved_to
            try:
                self._replace(await asyncio.to_thread(self._discover))
            except LakehouseError as error:
                log.error("The streams stay as they were: %s", error)
            else:
                on_change()

    def _discover(self) -> dict[str, Intake]:
        found = discover(self._settings.streams, examples=self._settings.examples)
        return {name: self._intake(stream) for name, stream in found.items()}

    def _intake(self, stream: Stream) -> Intake:
        """Make an intake. One whose contract has not changed keeps its contract object and its validator."""
        known = self._intakes.get(stream.name)
        if known is not None and known.stream.contract == stream.contract:
            return known
        return Intake(stream, Validator(stream.contract), opener_of(stream.contract))

    def _replace(self, intakes: dict[str, Intake]) -> None:
        self._intakes = intakes
        self.streams.clear()
        self.streams.update((name, intake.stream) for name, intake in intakes.items())
