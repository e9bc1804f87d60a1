"""`GET /v1/lookups/{name}/{key}`, `/v1/customers/{id}` and `/v1/entities/{stream}/{id}`: one entity by its id.

The HTTP server's processes answer them without asking the serving process, because they need only files of this machine.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, get
from litestar.params import Parameter
from litestar.types import HTTPScope

from lakehouse.contracts.streams import Stream, revision
from lakehouse.http.auth import AccessControl
from lakehouse.http.problems import Problem, error_responses, unknown_stream
from lakehouse.processes.file_stamps import file_stamps
from lakehouse.serving.lookups.declaration import Lookup, discover_lookups
from lakehouse.serving.lookups.index import LookupIndex, LookupIndexes
from lakehouse.serving.lookups.paths import CUSTOMERS
from lakehouse.settings import Settings
from lakehouse.streams.customers import CustomerHistory

PATHS = ("/v1/lookups", "/v1/customers", "/v1/entities")

FOLLOW_INTERVAL_SECONDS = 0.5
"""Time between two checks of whether the declared look-ups have changed."""

HttpRequest = Request[Any, Any, Any]
Id = Annotated[str, Parameter(description="The entity's id as in the events, percent-encoded where necessary.")]


class FollowedLookups:
    """The declared look-ups of this process, read again when they are used and their files or the streams have changed."""

    def __init__(self, settings: Settings, streams: Mapping[str, Stream]) -> None:
        self._folders = settings.lookups
        self._streams = streams
        self._lookups: Mapping[str, Lookup] = {}
        self._read: object = None
        self._next_check = float("-inf")

    def by_name(self) -> Mapping[str, Lookup]:
        """Return the look-ups, as their files were at most FOLLOW_INTERVAL_SECONDS ago."""
        if time.monotonic() >= self._next_check:
            folders = revision(self._folders)
            now = folders, file_stamps(folders, depth=0), tuple(self._streams)
            if now != self._read:
                self._lookups, self._read = discover_lookups(folders, self._streams).by_name, now
            self._next_check = time.monotonic() + FOLLOW_INTERVAL_SECONDS
        return self._lookups


@dataclass(frozen=True, slots=True)
class LookupContext:
    """The state that the handlers share. There is one per process."""

    streams: Mapping[str, Stream]
    declared: FollowedLookups
    indexes: LookupIndexes
    access: AccessControl


class Entity(msgspec.Struct):
    """An entity's features at the end of a day."""

    stream: str
    id: str
    as_of: date
    """The last day for which its features were computed."""
    features: dict[str, Any]
    """The columns of the stream's features; decimals as strings."""


class Customer(CustomerHistory):
    """A customer's history, and its newest features."""

    features: dict[str, Entity]
    """The newest features in each stream that has them."""


class LookupInfo(msgspec.Struct):
    """A declared look-up."""

    name: str
    description: str
    key: str
    """The column by which entities are looked up."""
    path: str


@get("/lookups", summary="List the look-ups", responses=error_responses(401, 403))
async def list_lookups(request: HttpRequest, lookups: LookupContext) -> list[LookupInfo]:
    """List every declared look-up with its key."""
    lookups.access.authenticate(request)
    return [
        LookupInfo(lookup.name, lookup.description, lookup.key, f"/v1/lookups/{lookup.name}/{{{lookup.key}}}")
        for lookup in lookups.declared.by_name().values()
    ]


@get(
    "/lookups/{name:str}/{key:path}",
    summary="One entity of a look-up",
    responses=error_responses(400, 401, 403, 404),
)
async def lookup(request: HttpRequest, lookups: LookupContext, name: str, key: Id) -> dict[str, Any]:
    """Return the row of a declared look-up that has this key; decimals as strings, times in UTC."""
    row: dict[str, Any] = msgspec.json.decode(_declared_document(request, lookups, name, _id(key)))
    return row


@get(
    "/entities/{stream:str}/{entity:path}",
    summary="Features of an entity",
    responses=error_responses(400, 401, 403, 404),
)
async def entity(request: HttpRequest, lookups: LookupContext, stream: str, entity: Id) -> Entity:
    """Return the newest features of an account, device, customer or whatever the stream's contract names as its entity."""
    return msgspec.json.decode(_entity_document(request, lookups, stream, _id(entity)), type=Entity)


@get("/customers/{customer:path}", summary="A customer", responses=error_responses(400, 401, 403, 404))
async def customer(request: HttpRequest, lookups: LookupContext, customer: Id) -> Customer:
    """Return a customer's invoices, orders, revenue, first and last time seen, recent lines and features."""
    return msgspec.json.decode(_customer_document(request, lookups, _id(customer)), type=Customer)


def answer_immediately(lookups: LookupContext, scope: HTTPScope) -> bytes | None:
    """Return the JSON of a successful look-up, without the framework, which takes more time than all the rest.

    None for any other request: the handlers report what is wrong with it.
    """
    path = scope["path"]
    if scope["method"] != "GET" or path.endswith("/") or "//" in path:
        return None
    request: HttpRequest = Request(scope)
    try:
        match path.split("/", 4):
            case ["", "v1", "entities", stream, key]:
                return _entity_document(request, lookups, stream, key)
            case ["", "v1", "lookups", name, key]:
                return _declared_document(request, lookups, name, key)
            case ["", "v1", "customers", *rest]:
                return _customer_document(request, lookups, "/".join(rest))
    except Exception:  # the handler meets the same error and reports it
        return None
    return None


def _entity_document(request: HttpRequest, lookups: LookupContext, stream: str, key: str) -> bytes:
    lookups.access.authorize(request, "query", stream)
    if stream not in lookups.streams:
        raise unknown_stream(stream, sorted(lookups.streams))
    if (document := _index(lookups, stream).get(key)) is None:
        raise _not_found(lookups.streams[stream].contract.entity or "entity", key, stream)
    return document


def _declared_document(request: HttpRequest, lookups: LookupContext, name: str, key: str) -> bytes:
    declared = lookups.declared.by_name()
    if (lookup := declared.get(name)) is None:
        lookups.access.authorize(request, "query")
        there_are = f"there are {', '.join(sorted(declared))}" if declared else "no file declares one"
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no look-up {name!r}; {there_are}.")
    _authorize(request, lookups.access, lookup)
    if (document := _index(lookups, name).get(key)) is None:
        raise _not_found(lookup.key, key, f"the look-up {name}")
    return document


def _authorize(request: HttpRequest, access: AccessControl, lookup: Lookup) -> None:
    """Raise Problem 401 or 403 if a request may not read the tables that a look-up was computed from."""
    api_key = access.authorize(request, "query", *lookup.streams)
    if api_key is not None and api_key.streams and lookup.shared_tables:
        tables = ", ".join(lookup.shared_tables)
        raise Problem(HTTPStatus.FORBIDDEN, f"The key {api_key.id} ({api_key.name}) may not read {tables}.")


def _customer_document(request: HttpRequest, lookups: LookupContext, key: str) -> bytes:
    customers = lookups.declared.by_name().get(CUSTOMERS)
    if customers is None or not customers.is_shipped:
        lookups.access.authorize(request, "query")
        raise Problem(
            HTTPStatus.NOT_FOUND, "There are no customers, because a stream that they are computed from is not there."
        )
    _authorize(request, lookups.access, customers)
    if (document := _index(lookups, CUSTOMERS).get(key)) is None:
        raise _not_found("customer", key, " or ".join(customers.streams))
    features = [
        b'"%s":%s' % (name.encode(), entity_document)
        for name in customers.streams
        if (index := lookups.indexes.get(name)) and (entity_document := index.get(key))
    ]
    return b'%s,"features":{%s}}' % (document.removesuffix(b"}"), b",".join(features))


def _id(path: str) -> str:
    return path.removeprefix("/")


def _index(lookups: LookupContext, name: str) -> LookupIndex:
    if (index := lookups.indexes.get(name)) is None:
        detail = (
            f"The look-up {name} does not exist yet. A run of serving/{name}_lookup computes it, as part of the daily"
            " batch, `lakehouse load` or the Dagster page. `lakehouse up` serves it seconds later."
        )
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    return index


def _not_found(kind: str, key: str, where: str) -> Problem:
    detail = f"There is no {kind} {key!r} in {where}, or it has not reached the look-up yet."
    return Problem(HTTPStatus.NOT_FOUND, detail)


router = Router("/v1", route_handlers=[list_lookups, lookup, entity, customer], tags=["look-ups"])
