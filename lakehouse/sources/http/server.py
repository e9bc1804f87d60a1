"""The life of the HTTP server of one home, seen from outside: start, find, stop. Quick to import; serving is `run`'s."""

from lakehouse.http import api_keys as keys
from lakehouse.processes.service import RunningService, Service, is_ready, settings_environment
from lakehouse.settings import Settings

__all__ = ["RunningService", "is_ready", "running", "settings_environment", "start", "stop"]

SERVICE = Service("http", "lakehouse.sources.http", "The HTTP server")


def start(settings: Settings) -> RunningService:
    """Start a server in a process of its own unless one runs, and wait until it answers. Raises LakehouseError.

    The local user's API key is made when there is none.
    """
    keys.local_key(settings)
    return SERVICE.start(settings)


def stop(settings: Settings) -> bool:
    """Stop the server when it has stored what it holds. True when one ran."""
    return SERVICE.stop(settings)


def running(settings: Settings) -> RunningService | None:
    """The server of this home; None when its process is gone."""
    return SERVICE.running(settings)
