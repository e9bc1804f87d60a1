"""The findings of an audit: which partitions differ from their sources, how, and how to fix them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["wrong", "stale"]
"""`wrong`: the partition does not hold what its sources give. `stale`: it was computed from older sources, and a run will
compute it again."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One partition that differs."""

    stream: str
    layer: str
    """The layer's name, as in table names: `landing`, `bronze`, `silver`, …"""
    partition: str
    """A day: of arrival in landing, bronze and realtime, of the event in the others."""
    check: str
    """The comparison, such as `landed = bronze`."""
    state: State
    detail: str
    """How the partition differs."""
    fix: str
    """How to fix the difference."""

    @property
    def place(self) -> tuple[str, str, str, str]:
        """The compared partition and the check. Two findings share it only if one check found two differences."""
        return self.stream, self.layer, self.partition, self.check

    def as_json(self) -> dict[str, str]:
        """Return the finding as `lakehouse audit --json` prints it."""
        return {
            "stream": self.stream,
            "layer": self.layer,
            "partition": self.partition,
            "check": self.check,
            "state": self.state,
            "what": self.detail,
            "do": self.fix,
        }


@dataclass(slots=True)
class Report:
    """The result of an audit: counts of compared partitions and rows, and the findings."""

    partitions: dict[str, int] = field(default_factory=dict)
    """How many partitions of each table were compared, by the table's name."""
    rows: dict[str, int] = field(default_factory=dict)
    """How many rows they hold."""
    expired: dict[str, int] = field(default_factory=dict)
    """By stream, how many rows only bronze has, because their day is older than silver keeps."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> list[Finding]:
        """The findings of wrong partitions, in order."""
        return sorted(finding for finding in self.findings if finding.state == "wrong")

    @property
    def stale(self) -> list[Finding]:
        """The findings of stale partitions, in order."""
        return sorted(finding for finding in self.findings if finding.state == "stale")

    def count(self, table: str, partitions: int, rows: int = 0) -> None:
        """Count what was compared."""
        self.partitions[table] = self.partitions.get(table, 0) + partitions
        self.rows[table] = self.rows.get(table, 0) + rows

    def add(self, other: "Report") -> None:
        """Add what another audit compared and found."""
        for table, partitions in other.partitions.items():
            self.count(table, partitions, other.rows.get(table, 0))
        self.expired |= other.expired
        self.findings += other.findings

    def as_json(self) -> dict[str, Any]:
        """Return the report as `lakehouse audit --json` prints it."""
        return {
            "holds": not self.wrong,
            "wrong": len(self.wrong),
            "stale": len(self.stale),
            "partitions": self.partitions,
            "rows": self.rows,
            "expired": self.expired,
            "findings": [finding.as_json() for finding in [*self.wrong, *self.stale]],
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """How the rows of a partition differ from those it should hold, as numbers of rows."""

    missing: int = 0
    extra: int = 0
    repeated: int = 0
    changed: int = 0
    example: str = ""
    """The key of one such row."""

    def __str__(self) -> str:
        counts = (
            (self.missing, "missing"),
            (self.extra, "too many"),
            (self.repeated, "repeated"),
            (self.changed, "changed"),
        )
        text = ", ".join(f"{count:,} {word}" for count, word in counts if count)
        return f"rows {text} (such as {self.example})" if self.example else f"rows {text}"


def format_key(names: Sequence[str], values: Iterable[object]) -> str:
    """Format a row's key for people."""
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def count_mismatches(actual: Mapping[str, int], recorded: Mapping[str, int]) -> str:
    """Format the counts that differ from the recorded ones; empty if none does."""
    return ", ".join(
        f"{name} {recorded.get(name, 0):,} where there are {number:,}"
        for name, number in actual.items()
        if recorded.get(name, 0) != number
    )
