"""Start, find and stop the serving process of a home. Quick to import; see `run` for the process itself."""

from lakehouse.processes.service import RunningService, Service
from lakehouse.settings import Settings

SERVICE = Service("serving", "The serving process")


def start(settings: Settings) -> RunningService:
    """Start the serving process unless it runs, and wait until it responds. Raises LakehouseError if it does not start."""
    return SERVICE.start(settings, "lakehouse.serving.api")


def stop(settings: Settings) -> bool:
    """Stop the serving process. Return whether it ran."""
    return SERVICE.stop(settings)


def running(settings: Settings) -> RunningService | None:
    """Return the running serving process of this home, or None."""
    return SERVICE.running(settings)
