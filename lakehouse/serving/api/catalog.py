"""Routes under `/v1/catalog`: every table, view, model, named query, look-up and dashboard, with lineage, state and history."""

import difflib
from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import Router, get
from litestar.params import QueryParameter

from lakehouse.http.api_keys import ApiKey
from lakehouse.http.problems import Problem, error_responses
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.catalog.catalog import CatalogPage
from lakehouse.serving.catalog.contents import Contents
from lakehouse.serving.catalog.entries import Entry
from lakehouse.serving.catalog.lineage import Lineage, lineage_of

ColumnParameter = Annotated[
    str | None,
    QueryParameter(max_length=1000, description="Follow this column; nodes are then `layer.name.column`."),
]


@get("/", summary="List the catalog", responses=error_responses(401, 403, 503))
async def entries(request: HttpRequest, serving: Serving) -> list[Entry]:
    """List every table, view, model, named query, look-up and dashboard that the key permits, with columns and sizes."""
    key = serving.access.authorize(request, "query")
    contents = await serving.catalog.run(serving.catalog.contents, serving.snapshot)
    allowed = _allowed(serving, key, contents)
    return [_only(entry, allowed) for name, entry in contents.entries.items() if name in allowed]


@get("/{layer:str}/{name:str}", summary="Describe an entry", responses=error_responses(401, 403, 404, 503))
async def entry(request: HttpRequest, serving: Serving, layer: str, name: str) -> CatalogPage:
    """Return everything about one entry: columns and their lineage, snapshots, stale days, checks, contract, SQL."""
    contents, allowed = await _find(request, serving, f"{layer}.{name}")
    page = await serving.catalog.run(serving.catalog.page, contents, f"{layer}.{name}", allowed)
    return msgspec.structs.replace(page, entry=_only(page.entry, allowed))


@get("/{layer:str}/{name:str}/lineage", summary="Follow lineage", responses=error_responses(400, 401, 403, 404, 503))
async def lineage(
    request: HttpRequest, serving: Serving, layer: str, name: str, column: ColumnParameter = None
) -> Lineage:
    """Return what an entry, or one of its columns, is computed from, and what is computed from it, at any distance."""
    contents, allowed = await _find(request, serving, f"{layer}.{name}")
    if column is None:
        return lineage_of(contents.reads(allowed), f"{layer}.{name}")
    columns = [each.name for each in contents.entries[f"{layer}.{name}"].columns]
    if column not in columns:
        raise Problem(HTTPStatus.NOT_FOUND, f"{layer}.{name} has no column {column!r}; there are {', '.join(columns)}.")
    return await serving.catalog.run(serving.catalog.column_lineage, contents, f"{layer}.{name}", column, allowed)


async def _find(request: HttpRequest, serving: Serving, name: str) -> tuple[Contents, set[str]]:
    """Return the catalog, and the names that a request may read, which has this one.

    Raises Problem 401 or 403 if it may not read it, and Problem 404 with the nearest names if there is no such entry.
    """
    key = serving.access.authorize(request, "query")
    contents = await serving.catalog.run(serving.catalog.contents, serving.snapshot)
    allowed = _allowed(serving, key, contents)
    if name not in contents.entries:
        near = difflib.get_close_matches(name, allowed, cutoff=0)
        raise Problem(HTTPStatus.NOT_FOUND, f"The catalog has no {name!r}; the nearest are {', '.join(near)}.")
    if name not in allowed:
        assert key is not None
        raise Problem(HTTPStatus.FORBIDDEN, f"The key {key.id} ({key.name}) may not read {name}.")
    return contents, allowed


def _allowed(serving: Serving, key: ApiKey | None, contents: Contents) -> set[str]:
    """Return the entries that a key may read: for some streams, those over these streams alone."""
    if key is None or not key.streams:
        return {*contents.entries}
    views = serving.readable_views(key, contents.snapshot)
    over_views = {
        name
        for name, entry in contents.entries.items()
        if entry.kind in ("query", "lookup", "dashboard") and entry.reads and views.issuperset(entry.reads)
    }
    return {name for name in contents.entries if name in views} | over_views


def _only(entry: Entry, allowed: set[str]) -> Entry:
    """Return an entry that names no others than these."""
    if allowed.issuperset(entry.reads):
        return entry
    return msgspec.structs.replace(entry, reads=[read for read in entry.reads if read in allowed])


router = Router("/v1/catalog", route_handlers=[entries, entry, lineage], tags=["catalog"])
