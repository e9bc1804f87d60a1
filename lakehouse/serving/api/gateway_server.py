"""Start, find and stop the HTTP server of a home, from another process. Quick to import: see `gateway` for what it answers."""

from lakehouse.http import api_keys as keys
from lakehouse.processes.service import RunningService, is_ready
from lakehouse.settings import Settings
from lakehouse.sources.http.server import SERVICE, running, stop

__all__ = ["MODULE", "SERVICE", "RunningService", "is_ready", "running", "start", "stop"]

MODULE = "lakehouse.serving.api.run_gateway"
"""The module that runs the server, for `python -m`."""


def start(settings: Settings) -> RunningService:
    """Start the server unless it runs, and wait until it is ready. Creates the local user's API key if there is none.

    Raises LakehouseError if the server does not start.
    """
    keys.local_key(settings)
    return SERVICE.start(settings, MODULE)
