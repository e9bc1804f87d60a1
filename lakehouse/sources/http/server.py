"""Find and stop the HTTP server of a home, from another process. Quick to import: see `run` for the server itself.

The server also answers routes of rooms above this one, so `serving.api.gateway_server` starts it.
"""

from lakehouse.processes.service import RunningService, Service
from lakehouse.settings import Settings

SERVICE = Service("http", "The HTTP server", "/health/live")
"""It starts also when storage can't store, because it answers reads."""


def stop(settings: Settings) -> bool:
    """Stop the server once it has stored what it holds. True when one ran."""
    return SERVICE.stop(settings)


def running(settings: Settings) -> RunningService | None:
    """Return the running server of this home; None when its process has ended."""
    return SERVICE.running(settings)
