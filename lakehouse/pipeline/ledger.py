"""The conservation ledger: what became of the rows that landed."""

from dataclasses import dataclass, field
from typing import Any

from lakehouse.pipeline import quality_gate
from lakehouse.pipeline.quality_gate import BlockedObjects


@dataclass(frozen=True, slots=True)
class Ledger:
    """The conservation ledger of one partition, in rows: landed = silver + quarantined + duplicates."""

    landed: int = 0
    valid: int = 0
    silver: int = 0
    quarantined: int = 0
    duplicates: int = 0
    blocked: bool = False
    """Whether the quality gate kept the partition from being replaced, because it blocked all objects."""
    blocked_objects: BlockedObjects = field(default_factory=dict)
    """Landing objects whose valid rows the quality gate keeps out of silver."""

    def __add__(self, other: "Ledger") -> "Ledger":
        """Add the ledger of another piece of the partition."""
        return Ledger(
            landed=self.landed + other.landed,
            valid=self.valid + other.valid,
            silver=self.silver + other.silver,
            quarantined=self.quarantined + other.quarantined,
            duplicates=self.duplicates + other.duplicates,
            blocked=self.blocked or other.blocked,
            blocked_objects={**self.blocked_objects, **other.blocked_objects},
        )

    @property
    def quality(self) -> float:
        """The share of valid rows, 1 for a partition without rows."""
        return self.valid / self.landed if self.landed else 1.0

    @property
    def conserved(self) -> bool:
        """Whether every landed row is accounted for, once."""
        return self.landed == self.silver + self.quarantined + self.duplicates

    def as_counts(self) -> dict[str, Any]:
        """Return the ledger as snapshots store it. `held_back` is there if the gate blocked the partition."""
        counts = {name: getattr(self, name) for name in ("landed", "valid", "silver", "quarantined", "duplicates")}
        counts |= {"held_back": 1} if self.blocked else {}
        return counts | (quality_gate.as_counts(self.blocked_objects) if self.blocked_objects else {})
