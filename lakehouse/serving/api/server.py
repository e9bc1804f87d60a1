"""The life of the serving process of one home, seen from outside: start, find, stop. Quick to import; serving is `run`'s."""

from lakehouse.processes.service import RunningService, Service
from lakehouse.settings import Settings

SERVICE = Service("serving", "lakehouse.serving.api", "The serving process")


def start(settings: Settings) -> RunningService:
    """Start one in a process of its own unless one runs, and wait until it answers. Raises LakehouseError."""
    return SERVICE.start(settings)


def stop(settings: Settings) -> bool:
    """Stop it. True when one ran."""
    return SERVICE.stop(settings)


def running(settings: Settings) -> RunningService | None:
    """The serving process of this home; None when there is none."""
    return SERVICE.running(settings)
