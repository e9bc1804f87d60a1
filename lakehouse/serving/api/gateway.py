"""The application of a gateway process: ingest and look-ups, which need only local files.

Every other request is forwarded to the serving process. See `gateway_server` to start the gateway.
"""

from collections.abc import Mapping
from functools import partial

from litestar.types import ASGIApp

from lakehouse.contracts.streams import Stream
from lakehouse.http.auth import AccessControl
from lakehouse.serving.lookups import routes as lookups
from lakehouse.serving.lookups.index import LookupIndexes
from lakehouse.serving.lookups.paths import lookups_folder
from lakehouse.serving.lookups.routes import FollowedLookups, LookupContext
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import app
from lakehouse.sources.http.app import ExtraRoutes


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Build the application of one gateway process. Raises StorageUnavailableError if storage is not running."""
    settings = settings or get_settings()
    folder = lookups_folder(settings)

    def lookup_routes(streams: Mapping[str, Stream], access: AccessControl) -> ExtraRoutes:
        context = LookupContext(streams, FollowedLookups(settings, streams), LookupIndexes(folder), access)
        return ExtraRoutes(
            (lookups.router,), {"lookups": context}, lookups.PATHS, partial(lookups.answer_immediately, context)
        )

    return app.create_app(settings, lookup_routes)
