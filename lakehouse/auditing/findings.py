"""What an audit says: which partitions differ from what they are made of, in what, and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["wrong", "stale"]
"""`wrong`: it does not hold what it is made of. `stale`: it was not computed from the newest of it, and will be."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One partition that differs."""

    stream: str
    layer: str
    """As in table names: `landing`, `bronze`, `silver`, …"""
    partition: str
    """A day; of arrival for landing and bronze, of the event for what is below."""
    check: str
    """What was compared, such as `landed = bronze`."""
    state: State
    what: str
    """What differs, in words."""
    do: str
    """What mends it."""

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What tells it from others of the same audit."""
        return self.stream, self.layer, self.partition, self.check


@dataclass(slots=True)
class Report:
    """What an audit looked at and what it found."""

    partitions: dict[str, int] = field(default_factory=dict)
    """How many partitions of each table were compared, by the table's name."""
    rows: dict[str, int] = field(default_factory=dict)
    """How many rows of it they hold."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> list[Finding]:
        """What does not hold."""
        return sorted(one for one in self.findings if one.state == "wrong")

    @property
    def stale(self) -> list[Finding]:
        """What is still to be computed."""
        return sorted(one for one in self.findings if one.state == "stale")

    def compared(self, table: str, partitions: int, rows: int = 0) -> None:
        """Count what was looked at."""
        self.partitions[table] = self.partitions.get(table, 0) + partitions
        self.rows[table] = self.rows.get(table, 0) + rows

    def add(self, more: "Report") -> None:
        """Take over what another audit said."""
        for table, partitions in more.partitions.items():
            self.compared(table, partitions, more.rows.get(table, 0))
        self.findings += more.findings

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        said = [
            {name: getattr(one, name) for name in Finding.__slots__}
            for one in sorted(self.findings, key=lambda one: (one.state != "wrong", one))
        ]
        return {
            "holds": not self.wrong,
            "wrong": len(self.wrong),
            "stale": len(self.stale),
            "partitions": self.partitions,
            "rows": self.rows,
            "findings": said,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """How what a partition holds differs from what it should hold, in rows."""

    missing: int = 0
    extra: int = 0
    repeated: int = 0
    changed: int = 0
    example: str = ""

    def __str__(self) -> str:
        words = (
            (self.missing, "missing"),
            (self.extra, "too many"),
            (self.repeated, "repeated"),
            (self.changed, "changed"),
        )
        text = ", ".join(f"{count:,} {word}" for count, word in words if count)
        return f"rows {text} (such as {self.example})" if self.example else f"rows {text}"


def format_key(names: Sequence[str], values: Iterable[object]) -> str:
    """A row's key in words."""
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def count_mismatches(what: Mapping[str, int], said: Mapping[str, int]) -> str:
    """Counts that differ from those that were said."""
    return ", ".join(
        f"{name} {said.get(name, 0):,} where there are {number:,}"
        for name, number in what.items()
        if said.get(name, 0) != number
    )
