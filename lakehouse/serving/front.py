"""What a process of the HTTP server answers: events, and look-ups, which need nothing but files of this machine.

All else it passes on to the serving process.
"""

from collections.abc import Mapping
from functools import partial

from litestar.types import ASGIApp

from lakehouse.contracts.streams import Stream
from lakehouse.ingest.http import app
from lakehouse.ingest.http.access import Access
from lakehouse.ingest.http.app import Beside
from lakehouse.layers.copies import copies
from lakehouse.serving.api import lookups
from lakehouse.serving.api.lookups import Known
from lakehouse.serving.indexes import Indexes
from lakehouse.settings import Settings, get_settings


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The application of one process. Raises StorageUnavailableError when there is no storage server to talk to."""
    settings = settings or get_settings()
    folder = copies(settings)

    def beside(streams: Mapping[str, Stream], access: Access) -> Beside:
        known = Known(streams, Indexes(folder), access)
        return Beside((lookups.router,), {"known": known}, lookups.PATHS, partial(lookups.at_once, known))

    return app.create_app(settings, beside)
