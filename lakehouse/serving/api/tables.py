"""`GET /v1/tables`: what can be read."""

from typing import Any

import msgspec
from litestar import Request, Router, get

from lakehouse.ingest.http.documented import refusals
from lakehouse.layers.views import view_names
from lakehouse.serving.api.serving import Serving


class Readable(msgspec.Struct):
    """A table or a view."""

    name: str
    """As it is written in SQL, `layer.name`."""
    snapshot: str | None
    """The id of its current snapshot, as text, for it has more digits than a JSON number keeps everywhere; null for a view
    and for a table that never held anything."""


@get("/", summary="What can be read", responses=refusals(401, 403))
async def tables(request: Request[Any, Any, Any], serving: Serving) -> list[Readable]:
    """Every table and view, with the snapshot that a query would read now."""
    serving.access.check(request, "query")
    snapshots = serving.snapshots()
    return [
        Readable(name, None if (found := snapshots.get(name)) is None else str(found))
        for name in view_names(serving.moment)
    ]


router = Router("/v1/tables", route_handlers=[tables], tags=["query"])
