"""The application: routers put together with what they work with. What a route does is in its own module.

A further router is one more in ROUTERS; it finds `serving` among its handlers' arguments.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from litestar import Litestar, Router, get
from litestar.datastructures import State
from litestar.types import ASGIApp, Receive, Send

from lakehouse.http.api_keys import ApiKeyStore, keys_path
from lakehouse.http.auth import AccessControl, needs_keys
from lakehouse.http.problems import EXCEPTION_HANDLERS, Problem, problem_details_plugin
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.api import alerts, overview, quarantine, query, tables
from lakehouse.serving.api.named_queries import named_router
from lakehouse.serving.api.notify_listener import listen
from lakehouse.serving.api.query_errors import QUERY_PROBLEMS
from lakehouse.serving.api.sse import Live
from lakehouse.serving.api.state import Serving, open_serving
from lakehouse.serving.lookups import routes as lookups
from lakehouse.serving.page import routes as page
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http.app import ROUTERS as INGEST_ROUTERS
from lakehouse.sources.http.app import openapi_config, provide_value
from lakehouse.sources.http.health import Health
from lakehouse.storage.embedded import lifecycle as server

ROUTERS: Sequence[Router] = (
    query.router,
    tables.router,
    overview.router,
    alerts.router,
    quarantine.router,
    page.router,
)
"""What this process answers, and the document tells of; named queries are added when their files have been read."""

SOON = {"retry-after": "1"}


@get("/health/ready", include_in_schema=False)
async def ready(serving: Serving) -> Health:
    """Whether queries are answered; whether events are stored is the front door's to say."""
    if not serving.workers.started:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The workers are starting; ask again.", headers=SOON)
    return Health("ok")


def create_app(
    settings: Settings | None = None, hints: tuple[str, int] | None = None, live: Live | None = None
) -> ASGIApp:
    """The application of the serving process, hearing of what lands at the address of `hints`; `live` ends its feeds.

    Raises StorageUnavailableError when there is no storage to talk to.
    """
    settings = settings or get_settings()
    # A router belongs to one application, and the document is another.
    queries = read_queries(settings.queries)
    lake = Lake(settings, server.connection(settings), metadata_only=True)
    access = AccessControl(ApiKeyStore(keys_path(settings)), required=needs_keys(settings))
    serving = open_serving(settings, lake, access, live or Live())

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        serving.workers.start()
        ear = await listen(serving.tracker, *hints) if hints else None
        tasks = [asyncio.create_task(work) for work in serving.background()]
        try:
            yield
        finally:
            if ear is not None:
                ear.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await serving.close()

    app = Litestar(
        route_handlers=[*ROUTERS, named_router(queries), ready],
        dependencies={"serving": provide_value(serving)},
        exception_handlers=EXCEPTION_HANDLERS,  # type: ignore[arg-type]
        plugins=[problem_details_plugin(QUERY_PROBLEMS)],
        lifespan=[lifespan],
        openapi_config=None,
        state=State({"serving": serving}),
        logging_config=None,
    )
    return _Documented(app, documented(named_router(queries)))


def documented(*more: Router) -> Litestar:
    """An application of all routes, the front door's too, that is asked for nothing but the document about them."""
    names = ("ingest", "access", "metrics", "probe", "known", "serving")
    return Litestar(
        route_handlers=[*INGEST_ROUTERS, lookups.router, *ROUTERS, *more],
        dependencies={name: provide_value(None) for name in names},
        exception_handlers=EXCEPTION_HANDLERS,  # type: ignore[arg-type]
        plugins=[problem_details_plugin()],
        openapi_config=openapi_config(),
        logging_config=None,
    )


class _Documented:
    """The application, with the document of another."""

    def __init__(self, app: Litestar, document: Litestar) -> None:
        self._app = app
        self._document = document

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and (scope["path"] + "/").startswith("/schema/")
        await (self._document if asked else self._app)(scope, receive, send)
