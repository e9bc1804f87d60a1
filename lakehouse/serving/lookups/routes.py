"""`GET /v1/customers/{id}` and `GET /v1/entities/{stream}/{id}`: what is known of one entity, by its id.

They need files of this machine and nothing else, so the HTTP server's processes answer them, without a hop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Router, get
from litestar.params import Parameter
from litestar.types import HTTPScope

from lakehouse.contracts.streams import Stream
from lakehouse.http.auth import AccessControl
from lakehouse.http.problems import Problem, error_responses
from lakehouse.serving.lookups.index import LookupIndex, LookupIndexes
from lakehouse.serving.lookups.paths import CUSTOMER_STREAMS, CUSTOMERS

PATHS = ("/v1/customers", "/v1/entities")

Asked = Request[Any, Any, Any]
Id = Annotated[str, Parameter(description="The entity's id, as the events have it; percent-encoded where need be.")]


@dataclass(frozen=True, slots=True)
class LookupContext:
    """What the handlers work with; one a process."""

    streams: Mapping[str, Stream]
    indexes: LookupIndexes
    access: AccessControl


class Entity(msgspec.Struct):
    """What is known of an entity at the end of a day."""

    stream: str
    id: str
    as_of: date
    """The last day on which its features were computed."""
    features: dict[str, Any]
    """The columns of the stream's features; decimals as strings."""


class Customer(msgspec.Struct):
    """What retail and orders together know of a customer."""

    id: str
    invoices: int
    """Invoices in retail, cancellations among them."""
    orders: int
    """Orders in their latest state, deleted ones not among them."""
    revenue: str
    """The net revenue of all retail lines, a decimal."""
    first_seen: str | None
    """The first line or change of an order, UTC."""
    last_seen: str | None
    recent_lines: list[dict[str, Any]]
    """The newest ten lines of retail, the newest first."""
    recent_orders: list[dict[str, Any]]
    """The newest ten orders, the newest first."""
    retail: dict[str, Any] | None
    """All that retail knows; null where it does not know the customer."""
    order_history: dict[str, Any] | None
    """All that orders knows; null where it does not know the customer."""
    features: dict[str, Entity]
    """The newest features in each stream that has them."""


@get(
    "/entities/{stream:str}/{entity:path}",
    summary="Features of an entity",
    responses=error_responses(400, 401, 403, 404),
)
async def entity(request: Asked, known: LookupContext, stream: str, entity: Id) -> Entity:
    """The newest features of an account, device, customer, …: what the stream's contract calls its entity."""
    return msgspec.json.decode(_entity(request, known, stream, _id(entity)), type=Entity)


def _entity(request: Asked, known: LookupContext, stream: str, key: str) -> bytes:
    known.access.authorize(request, "query", stream)
    asked = _stream(known, stream)
    if (found := _index(known, stream).get(key)) is None:
        raise _nobody(asked.contract.entity or "entity", key, stream)
    return found


@get("/customers/{customer:path}", summary="A customer", responses=error_responses(400, 401, 403, 404))
async def customer(request: Asked, known: LookupContext, customer: Id) -> Customer:
    """Invoices, orders, revenue, first and last time seen, recent lines and features of a customer."""
    return msgspec.json.decode(_customer(request, known, _id(customer)), type=Customer)


def _customer(request: Asked, known: LookupContext, key: str) -> bytes:
    known.access.authorize(request, "query", *CUSTOMER_STREAMS)
    if (found := _index(known, CUSTOMERS).get(key)) is None:
        raise _nobody("customer", key, "retail or orders")
    features = [
        b'"%s":%s' % (name.encode(), of_stream)
        for name in CUSTOMER_STREAMS
        if (index := known.indexes.get(name)) and (of_stream := index.get(key))
    ]
    return b'%s,"features":{%s}}' % (found.removesuffix(b"}"), b",".join(features))


def _id(path: str) -> str:
    return path.removeprefix("/")


def _stream(known: LookupContext, name: str) -> Stream:
    streams = known.streams
    if name not in streams:
        names = sorted(streams)
        raise Problem(
            HTTPStatus.NOT_FOUND, f"There is no stream {name!r}; there are {', '.join(names)}.", streams=names
        )
    return streams[name]


def _index(known: LookupContext, name: str) -> LookupIndex:
    if (index := known.indexes.get(name)) is None:
        detail = (
            f"The look-up {name} has not been made yet: a run of serving/{name}_lookup makes it, as the daily batch,"
            " `lakehouse load` and the Dagster page do, and the serving process of `lakehouse up` fetches it within seconds."
        )
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    return index


def _nobody(kind: str, key: str, where: str) -> Problem:
    detail = f"There is no {kind} {key!r} in {where}, or nothing of it has reached the look-up yet."
    return Problem(HTTPStatus.NOT_FOUND, detail)


def answer_immediately(known: LookupContext, scope: HTTPScope) -> bytes | None:
    """The answer to a request for somebody who is known, without the framework, which takes more time than all the rest.

    None for any other request: the handlers say what is wrong with it.
    """
    path = scope["path"]
    if scope["method"] != "GET" or path.endswith("/") or "//" in path:
        return None
    request: Asked = Request(scope)
    try:
        match path.split("/", 4):
            case ["", "v1", "entities", stream, key]:
                return _entity(request, known, stream, key)
            case ["", "v1", "customers", *rest]:
                return _customer(request, known, "/".join(rest))
    except Exception:  # the handler will meet it as well, and has an answer for it
        return None
    return None


router = Router("/v1", route_handlers=[entity, customer], tags=["look-ups"])
