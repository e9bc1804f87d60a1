"""How much one run of maintenance may do. What it leaves is the next run's."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Budget:
    """Bytes that may still be rewritten, and the moment (of the monotonic clock) after which nothing new is begun."""

    bytes: int = 16 << 30
    seconds: float = 3600.0
    started: float = field(default_factory=time.monotonic)

    @property
    def is_left(self) -> bool:
        """Whether another piece of work may begin."""
        return self.bytes > 0 and time.monotonic() - self.started < self.seconds

    def spend(self, size: int) -> None:
        """Take this many bytes off."""
        self.bytes -= size
