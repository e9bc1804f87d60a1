"""Find out where in storage the rows of a trace are: of landing objects where they are stored, of rows their bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lakehouse.contracts.streams import Stream
from lakehouse.landing.keys import LandingObject
from lakehouse.landing.row_positions import Position, find_landing, find_positions
from lakehouse.pipeline.tracing.trace import StreamOrigins
from lakehouse.storage.objects.store import Objects


@dataclass(frozen=True, slots=True)
class Places:
    """Where the landing objects and rows are; those that are gone, or of an unknown position, are missing."""

    objects: Mapping[str, LandingObject] = field(default_factory=dict)
    rows: Mapping[tuple[str, int], Position] = field(default_factory=dict)


def find_places(objects: Objects, stream: Stream, origins: StreamOrigins) -> Places:
    """Look the objects and rows that a trace lists up in storage. Reads those objects whose rows it lists.

    Raises StorageUnavailableError.
    """
    wanted = _by_object(origins)
    keys = dict.fromkeys([*(each.object for each in origins.by_object), *wanted])
    landed = {key: obj for key in keys if (obj := find_landing(objects, key, stream.name))}
    positions = {
        (key, row): position
        for key, rows in wanted.items()
        if key in landed
        for row, position in find_positions(objects, stream.contract, landed[key], rows).items()
    }
    return Places(landed, positions)


def _by_object(origins: StreamOrigins) -> dict[str, Sequence[int]]:
    rows: dict[str, list[int]] = {}
    for row in origins.rows:
        rows.setdefault(row.object, []).append(row.row)
    return {**rows}
