"""Open a client of the HTTP server that runs in this home. See `lakehouse.client` for the client itself."""

from lakehouse.client.client import Client
from lakehouse.errors import LakehouseError
from lakehouse.http import api_keys as keys
from lakehouse.settings import Settings
from lakehouse.sources.http import server


def local_client(settings: Settings) -> Client:
    """Open a client of this home's running server, with its local user's key. Raises LakehouseError if none runs."""
    service = server.running(settings)
    if service is None:
        raise LakehouseError("No HTTP server is running. Start it with `lakehouse up`.")
    return Client(service.url, keys.local_key(settings), certificate=settings.http_tls_certificate)
