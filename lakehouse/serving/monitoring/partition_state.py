"""The state of a stream's partitions, read off the tables' metadata alone: what is computed, what is behind, what was held
back by the quality gate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import msgspec
from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.gold import DAILY_METRICS
from lakehouse.pipeline.lineage.properties import blocked_days, computed_from, is_day
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.storage.iceberg.snapshots import ledger

State = Literal["materialised", "stale", "waiting", "held_back"]


class Partition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One day of one layer: its state, and its rows as far as a snapshot still says."""

    state: State
    rows: int | None = None


class Day(msgspec.Struct, frozen=True):
    """What became of one day's events, as the ledger of its last computation says."""

    day: date
    landed: int
    valid: int
    silver: int
    quarantined: int
    duplicates: int
    held_back: bool

    @property
    def quality(self) -> float | None:
        """The share of valid rows; None for a day without rows."""
        return self.valid / self.landed if self.landed else None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that has a partition for each day: its table and the table that it is computed from."""

    name: str
    table: str
    source: str


def layers_of(stream: str) -> list[Layer]:
    """The layers of a stream that are computed day by day, from the top down."""
    silver, daily = f"silver.{stream}", f"gold.{stream}_daily"
    return [
        Layer("silver", silver, f"bronze.{stream}"),
        Layer("gold", daily, silver),
        Layer("metrics", DAILY_METRICS, daily),
        Layer("features", f"serving.{stream}_features", silver),
        Layer("alerts", f"serving.{stream}_alerts", silver),
    ]


def tables_of(stream: str) -> list[str]:
    """Every table that the state of a stream's partitions is read off."""
    return [f"bronze.{stream}", f"quarantine.{stream}", *(layer.table for layer in layers_of(stream))]


@dataclass(frozen=True, slots=True)
class Partitions:
    """A stream's partitions by layer and day, and what became of each day."""

    layers: Mapping[str, Mapping[date, Partition]]
    days: Mapping[date, Day]

    @property
    def last(self) -> Day | None:
        """The newest day on which something landed."""
        return max((day for day in self.days.values() if day.landed), key=lambda day: day.day, default=None)


def partitions_of(stream: Stream, load: Callable[[str], Table]) -> Partitions:
    """The state of all partitions of a stream; `load` gives a table by its name.

    Days before the first that silver keeps are left out: they are not computed again.
    """
    name, first = stream.name, first_kept_day(stream.contract, "silver")
    tables = {one: load(one) for one in tables_of(name)}
    layers_below = layers_of(name)
    touched = {
        source: _kept(last_changes(tables[source]), first) for source in {layer.source for layer in layers_below}
    }
    quarantine, bronze = tables[f"quarantine.{name}"], touched[f"bronze.{name}"]
    days = _days(quarantine)
    held = _held_back(quarantine, bronze, f"bronze.{name}")
    layers: dict[str, dict[date, Partition]] = {
        "bronze": {day: Partition("materialised", days[day].landed if day in days else None) for day in bronze}
    }
    for layer in layers_below:
        found = _states(tables[layer.table], layer, touched[layer.source])
        if layer.name == "silver":
            found |= {day: Partition("held_back", found[day].rows if day in found else None) for day in held}
        layers[layer.name] = found
    return Partitions(layers, days)


def _states(table: Table, layer: Layer, source: Mapping[date, int]) -> dict[date, Partition]:
    rows = {day: row.get("rows") for day, row in _ledgers(table).items()}
    read = computed_from(table, layer.source, source)
    found: dict[date, Partition] = {}
    for day, sequence in source.items():
        state: State = "waiting" if day not in read else "stale" if sequence > read[day] else "materialised"
        found[day] = Partition(state, None if state == "waiting" or layer.table == DAILY_METRICS else rows.get(day))
    return found


def _kept(days: Mapping[date, int], first: date | None) -> dict[date, int]:
    return {day: sequence for day, sequence in days.items() if first is None or day >= first}


def _held_back(quarantine: Table, bronze: Mapping[date, int], source: str) -> Sequence[date]:
    """Days that the gate refused as bronze is now; where it has changed since, they are computed again."""
    held = blocked_days(quarantine) & bronze.keys()
    read = computed_from(quarantine, source, held)
    return [day for day in held if read.get(day, -1) >= bronze.get(day, 0)]


def _days(quarantine: Table) -> dict[date, Day]:
    """Quarantine's commits have the ledgers of all days, of those too that silver refused."""
    return {
        day: Day(
            day,
            landed=int(row.get("landed", 0)),
            valid=int(row.get("valid", 0)),
            silver=int(row.get("silver", 0)),
            quarantined=int(row.get("quarantined", 0)),
            duplicates=int(row.get("duplicates", 0)),
            held_back=bool(row.get("held_back")),
        )
        for day, row in _ledgers(quarantine).items()
    }


def _ledgers(table: Table) -> dict[date, Mapping[str, Any]]:
    """What the newest snapshot that wrote each day says of it; days whose snapshots have expired are missing."""
    newest: dict[date, Mapping[str, Any]] = {}
    for snapshot in sorted(table.metadata.snapshots, key=lambda s: s.sequence_number or 0):
        newest |= {date.fromisoformat(day): row for day, row in ledger(snapshot).items() if is_day(day)}
    return newest
