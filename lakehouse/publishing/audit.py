"""Audit what was published: each partition's rows, sums and digests in a warehouse against the lake's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import isclose
from typing import Any, Literal

from lakehouse.pipeline.lake import Lake
from lakehouse.publishing.dialects import LAKE, empty_measures, measures
from lakehouse.publishing.publish import MEASURED_AT_ONCE, LoadedTable, checksum
from lakehouse.publishing.targets import Target
from lakehouse.publishing.warehouses import open_target

RELATIVE_TOLERANCE = 1e-9
"""How far two sums of doubles may differ, because they depend on the order of the rows."""


@dataclass(frozen=True, slots=True, order=True)
class PublishedDifference:
    """A partition in a warehouse that is not as in the lake."""

    warehouse: str
    table: str
    partition: str
    state: Literal["wrong", "stale"]
    """`wrong`: it differs from the version that the ledger names. `stale`: the lake has a newer version."""
    detail: str

    def __str__(self) -> str:
        return f"{self.state}: {self.table} {self.partition} in {self.warehouse}: {self.detail}"


@dataclass(slots=True)
class PublishedReport:
    """Counts of compared partitions and rows by table, and what differs."""

    partitions: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    differences: list[PublishedDifference] = field(default_factory=list)

    @property
    def wrong(self) -> list[PublishedDifference]:
        """The partitions that differ from the version that the ledger names."""
        return [difference for difference in self.differences if difference.state == "wrong"]

    @property
    def stale(self) -> list[PublishedDifference]:
        """The partitions of which the lake has a newer version."""
        return [difference for difference in self.differences if difference.state == "stale"]

    def summary(self) -> str:
        """Say on one line whether the warehouses hold what the lake does."""
        stale = f" {len(self.stale):,} partitions are stale; `lakehouse publish` loads them." if self.stale else ""
        if self.wrong:
            return f"{len(self.wrong):,} published partitions differ. `lakehouse publish TABLE --again` loads them anew.{stale}"
        return f"{sum(self.partitions.values()):,} published partitions are as in the lake.{stale}"

    def as_json(self) -> dict[str, Any]:
        """Return the report as `lakehouse audit --published --json` prints it."""
        return {
            "holds": not self.wrong,
            "wrong": len(self.wrong),
            "stale": len(self.stale),
            "partitions": self.partitions,
            "rows": self.rows,
            "findings": [
                {
                    "warehouse": difference.warehouse,
                    "table": difference.table,
                    "partition": difference.partition,
                    "state": difference.state,
                    "what": difference.detail,
                }
                for difference in self.differences
            ],
        }


def audit_published(lake: Lake) -> PublishedReport:
    """Compare every table that the warehouses of the settings hold. Raises LakehouseError if one does not answer."""
    report = PublishedReport()
    for warehouse in lake.settings.publish:
        with open_target(lake.settings, warehouse) as target:
            for name in target.published():
                _audit_table(lake, target, warehouse, name, report)
    report.differences.sort()
    return report


def _audit_table(lake: Lake, target: Target, warehouse: str, name: str, report: PublishedReport) -> None:
    place = f"{warehouse}: {name}"
    loads = target.loads(name)
    if not lake.tables.exists(name):
        report.differences.append(PublishedDifference(warehouse, name, "all", "stale", "the lake has no such table"))
        return
    loaded = LoadedTable.load(lake, name)
    pending = set(loaded.pending(loads))
    report.differences += [
        PublishedDifference(
            warehouse, name, day, "stale", "never loaded" if day not in loads else "the lake has a newer version"
        )
        for day in sorted(pending)
    ]
    current = sorted(loads.keys() - pending)
    report.partitions[place], report.rows[place] = len(current), 0
    names = [*measures(loaded.published.columns, LAKE)]
    nothing = tuple(empty_measures(loaded.published.columns).values())
    for start in range(0, len(current), MEASURED_AT_ONCE):
        part = current[start : start + MEASURED_AT_ONCE]
        held = target.measure(loaded.published, part)
        for day, values in loaded.measure(lake, part).items():
            report.rows[place] += int(values[0])
            found = [*_differences(names, values, held.get(day, nothing))]
            if loads[day].checksum != checksum(loaded.published.columns, values) and not found:
                found = ["the ledger names another checksum"]
            if found:
                report.differences.append(PublishedDifference(warehouse, name, day, "wrong", ", ".join(found)))


def _differences(names: Sequence[str], lake: Sequence[object], held: Sequence[object]) -> Iterator[str]:
    for name, wanted, value in zip(names, lake, held, strict=True):
        if not _equal(wanted, value):
            yield f"{name} {value} where the lake has {wanted}"


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float | int | Decimal):
        other = float(other)
        return one == other or (one != one and other != other) or isclose(one, other, rel_tol=RELATIVE_TOLERANCE)
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return Decimal(one) == Decimal(other)
    return one == other
