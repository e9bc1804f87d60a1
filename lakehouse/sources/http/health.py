"""Health checks and metrics of the HTTP server."""

from http import HTTPStatus
from typing import Any

import msgspec
import obstore
from litestar import Request, Response, Router, get
from obstore.store import S3Store

from lakehouse.errors import LakehouseError
from lakehouse.http.auth import AccessControl
from lakehouse.http.metrics import Metrics
from lakehouse.http.problems import Problem, error_responses
from lakehouse.landing.left_out import REPORT_KEY, decode_report
from lakehouse.sources.http.group_commit import GroupCommit
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import disk_shortage, translate_errors

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4"
PROBE_KEY = "health/ready"
FULL_RATIO = 0.011
"""Just above the share of free space at which SeaweedFS stops writing."""


class Health(msgspec.Struct, omit_defaults=True):
    """A healthy server."""

    status: str
    warnings: list[str] = []
    """Objects under `incoming/` that are not read, and why. Absent if there are none."""


class StorageProbe:
    """Checks whether storage accepts events."""

    def __init__(self, store: S3Store, connection: Connection, commit: GroupCommit) -> None:
        self._store = store
        self._connection = connection
        self._commit = commit

    async def check(self) -> list[str]:
        """Return what is left out of landing. Raise Problem 503 if storage does not respond, or its disk is full.

        Storage that has failed is probed by a write, because it can often list when it can't store.
        """
        if shortage := disk_shortage(self._connection.data_directory, FULL_RATIO):
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"Events can't be stored: {shortage}")
        try:
            with translate_errors("write", PROBE_KEY, self._connection):
                if self._commit.in_doubt:
                    await obstore.put_async(self._store, PROBE_KEY, b"", use_multipart=False)
                    return []
                folder = await obstore.list_with_delimiter_async(self._store, "health")
                if not any(obj["path"] == REPORT_KEY for obj in folder["objects"]):
                    return []
                report = await obstore.get_async(self._store, REPORT_KEY)
                return [entry.summary for entry in decode_report(bytes(await report.bytes_async()))]
        except LakehouseError as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"retry-after": "2"}) from error


@get("/health/live", summary="Is the server there?")
async def live() -> Health:
    """Respond as long as the process runs."""
    return Health("ok")


@get("/health/ready", summary="Can events be stored?", responses=error_responses(503))
async def ready(probe: StorageProbe) -> Health:
    """Check storage, and tell which files under `incoming/` are left out."""
    return Health("ok", await probe.check())


@get("/metrics", summary="Counters for Prometheus", media_type="text/plain", responses=error_responses(401, 403))
async def metrics(request: Request[Any, Any, Any], access: AccessControl, metrics: Metrics) -> Response[bytes]:
    """Return the counters of all processes, in Prometheus' text format. Any valid API key permits this, of its streams."""
    key = access.authenticate(request)
    return Response(metrics.text(() if key is None else key.streams), media_type=METRICS_MEDIA_TYPE)


router = Router("/", route_handlers=[live, ready, metrics], tags=["operation"])
