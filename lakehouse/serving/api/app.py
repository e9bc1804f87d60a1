"""The application of the serving process: its routers, their shared state, and the OpenAPI document of all routes.

Add a router to ROUTERS; its handlers receive the shared state as `serving`. What a route does is in its own module.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from litestar import Litestar, Router, get
from litestar.datastructures import State
from litestar.types import ASGIApp, Receive, Send

from lakehouse.http.api_keys import ApiKeyStore, keys_path
from lakehouse.http.auth import AccessControl, needs_keys
from lakehouse.http.problems import EXCEPTION_HANDLERS, Problem, problem_details_plugin
from lakehouse.http.security_headers import with_headers
from lakehouse.pipeline.lake import Lake
from lakehouse.processes.file_stamps import Stamps, file_stamps
from lakehouse.processes.problems import report_problems
from lakehouse.serving.api import (
    alerts,
    anomalies,
    catalog,
    dashboards,
    features,
    overview,
    quarantine,
    query,
    receipts,
    tables,
    trace,
    withdrawals,
)
from lakehouse.serving.api.dashboards import FollowedDashboards
from lakehouse.serving.api.following import follow_files
from lakehouse.serving.api.named_queries import named_queries_router
from lakehouse.serving.api.notify_listener import listen
from lakehouse.serving.api.query_errors import QUERY_PROBLEMS
from lakehouse.serving.api.sse import EventStreams
from lakehouse.serving.api.state import Serving, open_serving
from lakehouse.serving.catalog.query_charts import check_charts
from lakehouse.serving.lookups import routes as lookups
from lakehouse.serving.page import routes as page
from lakehouse.serving.query.named_queries import NamedQuery, reread_queries
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http.app import ROUTERS as INGEST_ROUTERS
from lakehouse.sources.http.app import openapi_config, provide_value
from lakehouse.sources.http.health import Health
from lakehouse.storage.embedded import lifecycle as storage

ROUTERS: Sequence[Router] = (
    query.router,
    tables.router,
    catalog.router,
    dashboards.router,
    overview.router,
    alerts.router,
    anomalies.router,
    features.router,
    quarantine.router,
    receipts.router,
    trace.router,
    withdrawals.router,
)
"""Routers of this process that the OpenAPI document describes.

`create_app` adds the pages, and `QueryRoutes` an application for the named queries.
"""

QUERIES_PATH = "/v1/queries"

DEPENDENCIES = ("ingest", "access", "metrics", "probe", "lookups", "serving", "followed_dashboards")
"""Names of the dependencies of all handlers, those of the gateway included."""


@get("/health/ready", include_in_schema=False)
async def ready(serving: Serving) -> Health:
    """Report whether queries can run. Whether events can be stored is reported by the gateway."""
    if not serving.workers.started:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The query workers are starting. Try again in a second.",
            headers={"retry-after": "1"},
        )
    return Health("ok")


def create_app(
    settings: Settings | None = None,
    notify_address: tuple[str, int] | None = None,
    event_streams: EventStreams | None = None,
) -> ASGIApp:
    """Build the application of the serving process.

    It listens for notifications of landed objects at `notify_address`, if given. The caller can end `event_streams`.
    Raises StorageUnavailableError if storage is not running.
    """
    settings = settings or get_settings()
    lake = Lake(settings, storage.connection(settings), metadata_only=True)
    access = AccessControl(ApiKeyStore(keys_path(settings)), required=needs_keys(settings))
    serving = open_serving(settings, lake, access, event_streams or EventStreams())
    queries, followed_dashboards = QueryRoutes(settings, serving), FollowedDashboards(settings)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        serving.workers.start()
        listener = await listen(serving.tracker, *notify_address) if notify_address else None
        tasks = [
            asyncio.create_task(task)
            for task in (*serving.background_tasks(), queries.follow(), followed_dashboards.follow())
        ]
        try:
            yield
        finally:
            if listener is not None:
                listener.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await serving.close()

    app = Litestar(
        route_handlers=[*ROUTERS, page.router, ready],
        dependencies={
            "serving": provide_value(serving),
            "followed_dashboards": provide_value(followed_dashboards),
        },
        exception_handlers=EXCEPTION_HANDLERS,  # type: ignore[arg-type]
        plugins=[problem_details_plugin(QUERY_PROBLEMS)],
        lifespan=[lifespan],
        openapi_config=None,
        state=State({"serving": serving}),
        logging_config=None,
    )
    return with_headers(_WithQueries(app, queries))


def openapi_app(*more: Router) -> Litestar:
    """Build an application that serves only the OpenAPI document of all routes, including the gateway's and `more`."""
    return Litestar(
        route_handlers=[*INGEST_ROUTERS, lookups.router, *ROUTERS, *more],
        dependencies={name: provide_value(None) for name in DEPENDENCIES},
        exception_handlers=EXCEPTION_HANDLERS,  # type: ignore[arg-type]
        plugins=[problem_details_plugin()],
        openapi_config=openapi_config(),
        logging_config=None,
    )


class QueryRoutes:
    """The application of the named queries and that of the document, which describes them. Both follow the files."""

    def __init__(self, settings: Settings, serving: Serving) -> None:
        """Read the queries. Raises QueryFileError if a folder of them does not exist."""
        self._settings = settings
        self._serving = serving
        self._queries: Mapping[str, NamedQuery] = {}
        self._update()

    async def follow(self) -> None:
        """Read the queries again whenever their files have changed, until cancelled."""
        await follow_files(self._settings, "queries", self._stamps, self._update)

    def _stamps(self) -> Stamps:
        return file_stamps(self._settings.queries, depth=0)

    def _update(self) -> None:
        folders, examples = self._settings.queries, self._settings.examples
        queries, problems = reread_queries(self._queries, folders, examples=examples)
        self._queries, of_charts = check_charts(queries, self._queries, self._serving.snapshot)
        report_problems(self._settings, "queries", [*problems, *of_charts])
        # A router belongs to one application, so the document's application gets a router of its own.
        self.document = openapi_app(named_queries_router(self._queries))
        self.app = Litestar(
            route_handlers=[named_queries_router(self._queries)],
            dependencies={"serving": provide_value(self._serving)},
            exception_handlers=EXCEPTION_HANDLERS,  # type: ignore[arg-type]
            plugins=[problem_details_plugin(QUERY_PROBLEMS)],
            openapi_config=None,
            state=State({"serving": self._serving}),
            logging_config=None,
        )


class _WithQueries:
    """An application whose paths below `/v1/queries` and `/schema/` are served by those of the named queries."""

    def __init__(self, app: Litestar, queries: QueryRoutes) -> None:
        self._app = app
        self._queries = queries

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._chosen(scope)(scope, receive, send)

    def _chosen(self, scope: Any) -> Litestar:
        path = scope["path"] if scope["type"] == "http" else ""
        if path == QUERIES_PATH or path.startswith(f"{QUERIES_PATH}/"):
            return self._queries.app
        return self._queries.document if path.startswith("/schema/") and path != "/schema/" else self._app
