"""The result type of every maintenance task that removes or replaces files."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Count the files that maintenance removed from, or replaced in, one table or key prefix."""

    target: str
    """A table, a key prefix, or a short description of what was cleaned."""
    removed: int = 0
    """Files that are gone: deleted, or merged into `added`."""
    added: int = 0
    """Files written in place of the removed ones."""
    bytes: int = 0
    """Size of the removed files."""
    partitions: int = 0
    rows: int = 0
    skipped: int = 0
    """Files left as they were because a concurrent commit replaced them first."""

    @property
    def reduction(self) -> int:
        """Number of files fewer than before."""
        return self.removed - self.added
