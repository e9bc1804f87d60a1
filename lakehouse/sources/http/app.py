"""The application: routers put together with what they work with. What a route does is in its own module."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeVar

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import ScalarRenderPlugin
from litestar.types import ASGIApp

from lakehouse.contracts.streams import Stream, discover
from lakehouse.contracts.validator import Validator
from lakehouse.errors import LakehouseError
from lakehouse.http.access_log import AccessLog, logged
from lakehouse.http.api_keys import ApiKeyStore, keys_path
from lakehouse.http.auth import AccessControl, needs_keys
from lakehouse.http.idempotency import IdempotencyStore, expire
from lakehouse.http.metrics import Metrics
from lakehouse.http.problems import EXCEPTION_HANDLERS, problem_details_plugin
from lakehouse.http.proxy import AtOnce, Forwarder, FrontDoor
from lakehouse.landing.writer import STORE_TIMEOUT_SECONDS, AsyncLandingWriter
from lakehouse.processes.workers import end_with_parent
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import health
from lakehouse.sources.http import routes as events
from lakehouse.sources.http.body import Buffer, Reader
from lakehouse.sources.http.group_commit import GroupCommit
from lakehouse.sources.http.health import Probe
from lakehouse.sources.http.notify import LandingNotifier
from lakehouse.sources.http.routes import Ingest
from lakehouse.sources.kinesis import status as kinesis
from lakehouse.storage.embedded import lifecycle as server
from lakehouse.storage.objects.store import Objects, open_store

log = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0
"""Between deletions of answers that need not be remembered any longer."""

T = TypeVar("T")


ROUTERS = (events.router, health.router)
PATHS = ("/v1/streams", "/health", "/metrics")
"""What this server answers itself; all but that, and what is put beside it, is the serving process's."""


@dataclass(frozen=True, slots=True)
class ExtraRoutes:
    """What else a process answers: routers, what their handlers work with, and the first segments of their paths."""

    routers: Sequence[Router] = ()
    dependencies: Mapping[str, object] = field(default_factory=dict)
    paths: Sequence[str] = ()
    at_once: AtOnce = lambda _: None


def create_app(
    settings: Settings | None = None, beside: Callable[[Mapping[str, Stream], AccessControl], ExtraRoutes] | None = None
) -> ASGIApp:
    """The application of one process. Raises StorageUnavailableError when there is no storage server to talk to."""
    settings = settings or get_settings()
    connection = server.connection(settings)
    streams = discover(settings.streams)
    store = open_store(connection, STORE_TIMEOUT_SECONDS)
    metrics = Metrics(partial(kinesis.metrics, settings))
    access = AccessControl(ApiKeyStore(keys_path(settings)), required=needs_keys(settings))
    buffer = Buffer(settings.http_buffer_mb << 20, metrics)
    forwarder = Forwarder(settings.root / "serving" / "state.json")
    hints = LandingNotifier(forwarder)
    commit = GroupCommit(
        AsyncLandingWriter(connection),
        {name: stream.contract for name, stream in streams.items()},
        metrics,
        age=timedelta(milliseconds=settings.http_flush_ms),
        size=settings.http_flush_kb << 10,
        tell=hints.tell,
    )
    ingest = Ingest(
        streams=streams,
        validators={name: Validator(stream.contract) for name, stream in streams.items()},
        commit=commit,
        buffer=buffer,
        reader=Reader(buffer, most=settings.http_max_body_mb << 20, seconds=settings.http_body_seconds),
        answers=IdempotencyStore(store, connection),
        access=access,
        most_events=settings.http_max_events,
    )
    access_log = AccessLog(settings.root / "logs" / "access.jsonl")
    objects = Objects.from_connection(connection)
    more = beside(streams, access) if beside else ExtraRoutes()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        end_with_parent()
        commit.warm_up()
        gc.freeze()  # what is there by now stays: going through it again and again takes time from every request
        tasks = [asyncio.create_task(access_log.run()), asyncio.create_task(_sweep(objects))]
        try:
            yield
        finally:
            await commit.close()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await forwarder.close()
            hints.close()
            access_log.write()

    app = Litestar(
        route_handlers=[*ROUTERS, *more.routers],
        dependencies={
            "ingest": provide_value(ingest),
            "access": provide_value(access),
            "metrics": provide_value(metrics),
            "probe": provide_value(Probe(store, connection, commit)),
            **{name: provide_value(value) for name, value in more.dependencies.items()},
        },
        exception_handlers=EXCEPTION_HANDLERS,  # type: ignore[arg-type]
        plugins=[problem_details_plugin()],
        lifespan=[lifespan],
        openapi_config=openapi_config(),
        request_max_body_size=None,  # the reader's affair
        logging_config=None,
    )
    return logged(access_log, metrics)(FrontDoor(app, forwarder, [*PATHS, *more.paths], more.at_once))


def openapi_config() -> OpenAPIConfig:
    """The OpenAPI document's head and place."""
    return OpenAPIConfig(title="Lakehouse", version="1", path="/schema", render_plugins=[ScalarRenderPlugin()])


async def _sweep(objects: Objects) -> None:
    while True:
        try:
            await asyncio.to_thread(expire, objects)
        except LakehouseError as problem:
            log.warning("Answers stay remembered for another hour: %s", problem)
        except Exception:  # a task that ends would keep them for ever
            log.exception("Answers stay remembered for another hour")
        await asyncio.sleep(SWEEP_SECONDS)


def provide_value(value: T) -> Provide:
    """A dependency that is always this value."""

    async def give() -> T:
        return value

    return Provide(give)
