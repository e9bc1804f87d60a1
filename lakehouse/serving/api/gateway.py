"""What a process of the HTTP server answers: events, and look-ups, which need nothing but files of this machine.

All else it passes on to the serving process.
"""

from collections.abc import Mapping
from functools import partial

from litestar.types import ASGIApp

from lakehouse.contracts.streams import Stream
from lakehouse.http.auth import AccessControl
from lakehouse.serving.lookups import routes as lookups
from lakehouse.serving.lookups.index import LookupIndexes
from lakehouse.serving.lookups.paths import lookups_folder
from lakehouse.serving.lookups.routes import LookupContext
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import app
from lakehouse.sources.http.app import ExtraRoutes


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The application of one process. Raises StorageUnavailableError when there is no storage server to talk to."""
    settings = settings or get_settings()
    folder = lookups_folder(settings)

    def beside(streams: Mapping[str, Stream], access: AccessControl) -> ExtraRoutes:
        known = LookupContext(streams, LookupIndexes(folder), access)
        return ExtraRoutes(
            (lookups.router,), {"known": known}, lookups.PATHS, partial(lookups.answer_immediately, known)
        )

    return app.create_app(settings, beside)
