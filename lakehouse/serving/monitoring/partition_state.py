"""States of a stream's partitions, from table metadata alone: materialised, stale, waiting, or blocked by the quality gate."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal, get_args

import msgspec
from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.lineage.properties import blocked_days, computed_from, day_ledgers
from lakehouse.pipeline.lineage.retention import first_kept_day
from lakehouse.pipeline.lineage.staleness import last_changes
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.quality_gate import named_objects
from lakehouse.pipeline.shadow_engine import OUTCOME

State = Literal["materialised", "stale", "waiting", "held_back"]
"""`waiting` was never computed; `held_back` is blocked by the quality gate."""


OUTCOMES = ("landed", "silver", "quarantined", "duplicates")


class Partition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One day of one layer."""

    state: State
    rows: int | None = None
    """None if no kept snapshot has the count."""


class BlockedObject(msgspec.Struct, frozen=True):
    """A landing object whose valid rows the quality gate keeps out of silver."""

    day: date
    object: str
    valid: int
    rows: int
    """Its rows of the day, without those that corrected rows replace."""


class DayLedger(msgspec.Struct, frozen=True):
    """The conservation ledger of one day, as its last computation recorded it."""

    day: date
    landed: int
    valid: int
    silver: int
    quarantined: int
    duplicates: int
    held_back: bool
    """Whether the quality gate blocked it."""
    replaced: int = 0
    """Rows in quarantine that a corrected row has replaced since. The others are open."""
    blocked_objects: tuple[BlockedObject, ...] = ()
    """At most five, those with the most valid rows first."""
    more_blocked_objects: int = 0

    @property
    def quality(self) -> float | None:
        """Share of valid rows, of those that are not replaced; None for a day without any."""
        # Equal rejected rows are in quarantine once, so that without an open row all of them are replaced.
        rows = self.landed - self.replaced if self.quarantined > self.replaced else self.valid
        return self.valid / rows if rows else None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with one partition per day: its table, and the table it is computed from."""

    name: str
    table: str
    source: str


def layers_of(stream: Stream) -> list[Layer]:
    """List the layers of a stream that are computed by day, sources before the layers computed from them."""
    name = stream.name
    silver, daily = f"silver.{name}", f"gold.{name}_daily"
    return [
        Layer("silver", silver, f"bronze.{name}"),
        Layer("gold", daily, silver),
        Layer("metrics", DAILY_METRICS, daily),
        *([Layer("features", f"serving.{name}_features", silver)] if stream.has_features else []),
        *([Layer("alerts", f"serving.{name}_alerts", silver)] if stream.has_alerts else []),
    ]


def source_tables(stream: Stream) -> list[str]:
    """List every table whose metadata `stream_partitions` reads."""
    return [f"bronze.{stream.name}", f"quarantine.{stream.name}", *(layer.table for layer in layers_of(stream))]


@dataclass(frozen=True, slots=True)
class StreamPartitions:
    """A stream's partitions by layer and day, and its conservation ledgers by day."""

    layers: Mapping[str, Mapping[date, Partition]]
    ledgers: Mapping[date, DayLedger]
    counts: Mapping[str, Mapping[State, int]] = field(init=False)
    """How many days of each layer have each state."""
    comparisons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """How many days of each layer were computed on the other engine too, by outcome. Layers without any are missing."""
    outcomes: Mapping[str, int] = field(init=False)
    """Rows of all days by outcome. `landed` is the sum of the others."""

    def __post_init__(self) -> None:
        counts = {
            layer: dict.fromkeys(get_args(State), 0) | Counter(partition.state for partition in days.values())
            for layer, days in self.layers.items()
        }
        ledgers = self.ledgers.values()
        outcomes = {name: sum(getattr(day, name) for day in ledgers) for name in OUTCOMES}
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "outcomes", outcomes)

    @property
    def last_day(self) -> DayLedger | None:
        """The ledger of the newest day with rows that are not replaced."""
        days = (day for day in self.ledgers.values() if day.quality is not None)
        return max(days, key=lambda day: day.day, default=None)

    @property
    def has_rejects(self) -> bool:
        """Whether a ledger counts rows in quarantine."""
        return any(day.quarantined for day in self.ledgers.values())

    @property
    def blocked_objects(self) -> list[BlockedObject]:
        """The landing objects that the quality gate blocks, newest days first."""
        return [blocked for day in sorted(self.ledgers, reverse=True) for blocked in self.ledgers[day].blocked_objects]

    def with_replaced(self, rows: Mapping[date, int]) -> "StreamPartitions":
        """Return the same, with the number of rows in quarantine that are replaced, by day."""
        ledgers = {day: msgspec.structs.replace(row, replaced=rows.get(day, 0)) for day, row in self.ledgers.items()}
        return replace(self, ledgers=ledgers)


def stream_partitions(stream: Stream, load: Callable[[str], Table]) -> StreamPartitions:
    """Derive the state of all partitions of a stream. `load` returns a table by its name.

    Days before the first that silver keeps are left out, because they are never computed again.
    """
    name, first = stream.name, first_kept_day(stream.contract, "silver")
    tables = {table: load(table) for table in source_tables(stream)}
    computed_layers = layers_of(stream)
    sources = {
        source: _kept(last_changes(tables[source]), first) for source in {layer.source for layer in computed_layers}
    }
    quarantine, bronze = tables[f"quarantine.{name}"], sources[f"bronze.{name}"]
    ledgers = _day_ledgers(quarantine)
    blocked = _blocked_days(quarantine, bronze, tables[f"bronze.{name}"])
    comparisons: dict[str, Counter[str]] = {}
    layers: dict[str, dict[date, Partition]] = {
        "bronze": {day: Partition("materialised", ledgers[day].landed if day in ledgers else None) for day in bronze}
    }
    for layer in computed_layers:
        counts = day_ledgers(tables[layer.table])
        partitions = _partitions(tables[layer.table], layer, tables[layer.source], sources[layer.source], counts)
        if compared := Counter(str(row[OUTCOME]) for row in counts.values() if OUTCOME in row):
            comparisons[layer.name] = compared
        if layer.name == "silver":
            partitions |= {
                day: Partition("held_back", partitions[day].rows if day in partitions else None) for day in blocked
            }
        layers[layer.name] = partitions
    return StreamPartitions(layers, ledgers, comparisons)


def _partitions(
    table: Table, layer: Layer, source: Table, changes: Mapping[date, int], counts: Mapping[date, Mapping[str, Any]]
) -> dict[date, Partition]:
    """Compare the source version each day was computed from with the source's current version, its sequence number."""
    rows = {day: row.get("rows") for day, row in counts.items()}
    source_versions = computed_from(table, source, changes)
    partitions: dict[date, Partition] = {}
    for day, sequence in changes.items():
        if day not in source_versions:
            partitions[day] = Partition("waiting")
        else:
            state: State = "stale" if sequence > source_versions[day] else "materialised"
            # All streams share the daily metrics table, so its ledger does not count one stream's rows.
            partitions[day] = Partition(state, None if layer.table == DAILY_METRICS else rows.get(day))
    return partitions


def _kept(days: Mapping[date, int], first: date | None) -> dict[date, int]:
    return {day: sequence for day, sequence in days.items() if first is None or day >= first}


def _blocked_days(quarantine: Table, bronze: Mapping[date, int], source: Table) -> Sequence[date]:
    """List the days that the quality gate blocked. Days whose bronze has changed since are recomputed, so not listed."""
    days = blocked_days(quarantine) & bronze.keys()
    source_versions = computed_from(quarantine, source, days)
    return [day for day in days if source_versions.get(day, -1) >= bronze.get(day, 0)]


def _day_ledgers(quarantine: Table) -> dict[date, DayLedger]:
    """Read the ledgers of all days from quarantine, whose commits include the days that were blocked from silver."""
    return {
        day: DayLedger(
            day,
            landed=int(row.get("landed", 0)),
            valid=int(row.get("valid", 0)),
            silver=int(row.get("silver", 0)),
            quarantined=int(row.get("quarantined", 0)),
            duplicates=int(row.get("duplicates", 0)),
            held_back=bool(row.get("held_back")),
            blocked_objects=tuple(
                BlockedObject(day, key, rows.valid, rows.rows) for key, rows in named_objects(row).items()
            ),
            more_blocked_objects=int(row.get("more_blocked_objects", 0)),
        )
        for day, row in day_ledgers(quarantine).items()
    }
