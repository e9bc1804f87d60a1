"""The ASGI application of one process of the HTTP server: its routes and what they depend on.

See `routes` and `health` for the routes themselves.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.http.access_log import AccessLog, access_log_middleware
from lakehouse.http.api_keys import ApiKeyStore, keys_path
from lakehouse.http.auth import AccessControl, needs_keys
from lakehouse.http.idempotency import IdempotencyStore, expire
from lakehouse.http.idle_connections import IDLE_SECONDS, close_idle_connections
from lakehouse.http.metrics import Metrics
from lakehouse.http.problems import EXCEPTION_HANDLERS, problem_details_plugin
from lakehouse.http.proxy import FastPath, Forwarder, Gateway
from lakehouse.http.published_metrics import published
from lakehouse.http.security_headers import with_headers
from lakehouse.landing.writer import STORE_TIMEOUT_SECONDS, AsyncLandingWriter
from lakehouse.processes.workers import end_with_parent
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import health
from lakehouse.sources.http import routes as events
from lakehouse.sources.http.body import BodyReader, BufferLimit
from lakehouse.sources.http.group_commit import GroupCommit
from lakehouse.sources.http.health import StorageProbe
from lakehouse.sources.http.intake import Intakes
from lakehouse.sources.http.joint_writer import JointWriter, meeting_point
from lakehouse.sources.http.notify import LandingNotifier
from lakehouse.sources.http.routes import Ingest
from lakehouse.sources.http.sends import SUM_SECONDS, Sends
from lakehouse.sources.kinesis import status as kinesis
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.store import Objects, open_store

log = logging.getLogger(__name__)

EXPIRY_INTERVAL_SECONDS = 3600.0
"""Time between deletions of expired idempotency records."""

T = TypeVar("T")

ROUTERS = (events.router, health.router)

PATHS = ("/v1/streams", "/health", "/metrics")
"""First segments of the paths that this server answers. All others but `ExtraRoutes` go to the serving process."""


@dataclass(frozen=True, slots=True)
class ExtraRoutes:
    """Routes that a room above adds to this application."""

    routers: Sequence[Router] = ()
    dependencies: Mapping[str, object] = field(default_factory=dict)
    """What the routers' handlers depend on, by parameter name."""
    paths: Sequence[str] = ()
    """First segments of their paths."""
    fast_path: FastPath = lambda _: None


def create_app(
    settings: Settings | None = None,
    add_routes: Callable[[Mapping[str, Stream], AccessControl], ExtraRoutes] = lambda _streams, _access: ExtraRoutes(),
) -> ASGIApp:
    """Create the application of one process. Raises StorageUnavailableError if storage is not running."""
    settings = settings or get_settings()
    connection = storage.connection(settings)
    intakes = Intakes(settings)
    store = open_store(connection, STORE_TIMEOUT_SECONDS)
    metrics = Metrics(lambda: kinesis.metrics(settings) + published(settings))
    access = AccessControl(ApiKeyStore(keys_path(settings)), required=needs_keys(settings))
    forwarder = Forwarder(settings.root / "serving" / "state.json", settings.http_body_seconds)
    notifier = LandingNotifier(forwarder)
    access_log = AccessLog(settings.root / "logs" / "access.jsonl")
    objects = Objects.from_connection(connection)
    classes = _sharing_classes(intakes, settings)
    writer = JointWriter(AsyncLandingWriter(connection), classes, meeting_point())
    commit = GroupCommit(
        writer,
        intakes.contracts,
        metrics,
        max_age=timedelta(milliseconds=settings.http_flush_ms),
        max_bytes=settings.http_flush_kb << 10,
        on_landed=notifier.notify,
    )
    ingest = _ingest(settings, intakes, commit, metrics, access, IdempotencyStore(store, connection))
    extra = add_routes(intakes.streams, access)

    def on_change() -> None:
        commit.replace_contracts(intakes.contracts)
        classes.update(_sharing_classes(intakes, settings))

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        end_with_parent()
        await writer.start()
        commit.warm_up()
        gc.freeze()  # collecting what lives as long as the process would take time from every request
        background = (
            access_log.run(),
            intakes.follow(on_change),
            _expire_hourly(objects),
            _log_sends(ingest.sends),
            close_idle_connections(IDLE_SECONDS + settings.query_seconds),
        )
        tasks = [asyncio.create_task(work) for work in background]
        try:
            yield
        finally:
            await commit.close()
            await writer.close()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await forwarder.close()
            notifier.close()
            access_log.write()
            await _write_sends(ingest.sends)

    app = Litestar(
        route_handlers=[*ROUTERS, *extra.routers],
        dependencies={
            "ingest": provide_value(ingest),
            "access": provide_value(access),
            "metrics": provide_value(metrics),
            "probe": provide_value(StorageProbe(store, connection, commit)),
            **{name: provide_value(value) for name, value in extra.dependencies.items()},
        },
        exception_handlers=EXCEPTION_HANDLERS,  # type: ignore[arg-type]
        plugins=[problem_details_plugin()],
        lifespan=[lifespan],
        openapi_config=openapi_config(),
        request_max_body_size=None,  # BodyReader limits it
        logging_config=None,
    )
    gateway = Gateway(app, forwarder, [*PATHS, *extra.paths], extra.fast_path)
    return access_log_middleware(access_log, metrics)(with_headers(gateway))


def _sharing_classes(intakes: Intakes, settings: Settings) -> dict[str, object]:
    """Return what streams must have in common to share landing objects: retention then deletes these whole."""
    return {
        name: contract.retention.landing if settings.http_share else name
        for name, contract in intakes.contracts.items()
    }


def _ingest(
    settings: Settings,
    intakes: Intakes,
    commit: GroupCommit,
    metrics: Metrics,
    access: AccessControl,
    idempotency: IdempotencyStore,
) -> Ingest:
    buffer = BufferLimit(settings.http_buffer_mb << 20, metrics)
    return Ingest(
        intakes=intakes,
        commit=commit,
        buffer=buffer,
        reader=BodyReader(buffer, max_bytes=settings.http_max_body_mb << 20, seconds=settings.http_body_seconds),
        idempotency=idempotency,
        access=access,
        max_events=settings.http_max_events,
        sends=Sends(settings),
        durable=settings.storage == "external" or settings.sync,
    )


def openapi_config() -> OpenAPIConfig:
    """Return the title and path of the OpenAPI document. The page that shows it is part of the serving process."""
    return OpenAPIConfig(title="Lakehouse", version="1", path="/schema", render_plugins=[JsonRenderPlugin()])


async def _log_sends(sends: Sends) -> None:
    while True:
        await asyncio.sleep(SUM_SECONDS)
        await _write_sends(sends)


async def _write_sends(sends: Sends) -> None:
    try:
        await asyncio.to_thread(sends.write)
    except Exception:  # they wait for the next time
        log.exception("The audit log could not be written; trying again")


async def _expire_hourly(objects: Objects) -> None:
    while True:
        try:
            await asyncio.to_thread(expire, objects)
        except LakehouseError as error:
            log.warning("Idempotency records could not be expired; trying again in an hour: %s", error)
        except Exception:  # if this task ended, records would never expire
            log.exception("Idempotency records could not be expired; trying again in an hour")
        await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)


def provide_value(value: T) -> Provide:
    """Make a Litestar dependency that is always this value."""

    async def provide() -> T:
        return value

    return Provide(provide)
