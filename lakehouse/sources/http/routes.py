"""`POST /v1/streams/{stream}/events`: events in, and the answer when they are stored."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, QueryParameter

from lakehouse.contracts.streams import Stream
from lakehouse.contracts.validator import Validator
from lakehouse.errors import LakehouseError
from lakehouse.http.auth import AccessControl
from lakehouse.http.idempotency import IdempotencyRecord, IdempotencyStore, request_hash
from lakehouse.http.problems import Problem, error_responses
from lakehouse.sources.http.batch import Batch, build_batch
from lakehouse.sources.http.body import JSON, Buffer, Reader, is_ndjson
from lakehouse.sources.http.framing import MalformedBodyError, as_lines
from lakehouse.sources.http.group_commit import GroupCommit, Stored

REASONS = 20
"""Reasons that an answer holds."""

LONGEST_KEY = 255


class Reason(msgspec.Struct):
    """Why an event is quarantined."""

    row: int
    """The event's number in the request, from 1."""
    field: str | None
    """The contract's field; null when the event as a whole is at fault."""
    reason: str
    """What is wrong, in the words of the quarantine table."""


class Receipt(msgspec.Struct):
    """Where the events are."""

    object: str
    """Key of the landing object."""
    first_row: int
    """The number of the request's first row in it, from 1."""
    last_row: int
    """The number of the request's last row in it."""
    arrived_at: datetime
    """The arrival time of all rows in the object, UTC."""


class Accepted(msgspec.Struct):
    """The events have been taken."""

    stream: str
    events: int
    """Events in the request."""
    durable: bool
    """Whether they are stored; false where the answer was not to wait for that, and then they may yet be lost."""
    accepted: int | None = None
    """Valid events; null when `durable` is false."""
    quarantined: int | None = None
    """Events that break the contract: stored, and kept in quarantine."""
    reasons: list[Reason] = []
    """The first reasons."""
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Ingest:
    """What the handler works with; one a process."""

    streams: Mapping[str, Stream]
    validators: Mapping[str, Validator]
    commit: GroupCommit
    buffer: Buffer
    reader: Reader
    answers: IdempotencyStore
    access: AccessControl
    most_events: int


@dataclass
class _PostOperation(Operation):
    """Litestar knows of no body that a handler reads by itself."""

    def __post_init__(self) -> None:
        event = Schema(type="object", description="One event; a JSON array of such, or one on each line, is taken too.")  # type: ignore[arg-type]
        content = {media: OpenAPIMediaType(schema=event) for media in ("application/x-ndjson", JSON)}
        self.request_body = RequestBody(
            content=content, description="Events, UTF-8, gzip or zstd at will.", required=True
        )


@post(
    "/{stream:str}/events",
    status_code=HTTPStatus.ACCEPTED,
    operation_class=_PostOperation,
    responses={202: ResponseSpec(Accepted, description="The events have been taken", generate_examples=False)}
    | error_responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503),
    summary="Land events",
)
async def post_events(
    request: Request[Any, Any, Any],
    ingest: Ingest,
    stream: str,
    wait: Annotated[bool, QueryParameter(description="false: answer at once, before the events are stored")] = True,
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(name="Idempotency-Key", description="The same key within a day lands nothing a second time"),
    ] = None,
) -> Response[bytes]:
    """Take events of a stream; invalid ones are stored too and go to quarantine. 202 means that they are stored."""
    ingest.access.authorize(request, "ingest", stream)
    if stream not in ingest.streams:
        names = sorted(ingest.streams)
        detail = f"There is no stream {stream!r}; there are {', '.join(names)}."
        raise Problem(HTTPStatus.NOT_FOUND, detail, streams=names)
    lines_only = is_ndjson(request)
    if ingest.commit.failing:
        raise _unavailable("Storage does not answer")
    async with ingest.reader.body(request) as body:
        land = partial(_land, ingest, stream, body, lines_only=lines_only, wait=wait)
        if idempotency_key is None:
            return _response(ingest, await land())
        return await _once(ingest, request, stream, body, idempotency_key, land)


async def _land(ingest: Ingest, stream: str, body: bytes, *, lines_only: bool, wait: bool) -> bytes:
    """Land the body's events; the answer as JSON."""
    try:
        lines = as_lines(body, lines_only=lines_only)
    except MalformedBodyError as problem:
        detail = (
            f"The body can't be told apart into events: {problem}. Nothing was stored; NDJSON keeps good lines apart."
        )
        raise Problem(HTTPStatus.BAD_REQUEST, detail) from None
    if lines.count(b"\n") > ingest.most_events:
        raise _too_many(ingest.most_events)
    batch, answer = ingest.commit.add(stream, partial(build_batch, ingest.validators[stream], lines))
    if answer is None:
        raise Problem(HTTPStatus.BAD_REQUEST, "The body holds no event; send at least one.")
    if not wait:
        return msgspec.json.encode(Accepted(stream, batch.count, durable=False))
    try:
        stored = await answer
    except LakehouseError as problem:
        raise _unavailable(str(problem)) from problem
    return msgspec.json.encode(_accepted(ingest.streams[stream], batch, stored))


async def _once(
    ingest: Ingest, request: Request[Any, Any, Any], stream: str, body: bytes, key: str, land: Any
) -> Response[bytes]:
    """Land only if no request with this key has landed before; else its answer."""
    if not 0 < len(key) <= LONGEST_KEY:
        raise Problem(HTTPStatus.BAD_REQUEST, f"An Idempotency-Key has 1 to {LONGEST_KEY} characters.")
    owner, digest = ingest.access.client_id(request), request_hash(stream, body)
    try:
        remembered = await ingest.answers.claim(owner, key, digest)
    except LakehouseError as problem:
        raise _unavailable(str(problem)) from problem
    if remembered is not None:
        return _response(ingest, _first_answer(remembered, digest), replayed=True)
    try:
        content: bytes = await land()
    except BaseException:
        with suppress(LakehouseError):
            await ingest.answers.give_back(owner, key)
        raise
    with suppress(LakehouseError):  # the events are stored, which is what the answer says
        await ingest.answers.remember(owner, key, digest, content)
    return _response(ingest, content)


def _first_answer(remembered: IdempotencyRecord, digest: str) -> bytes:
    if remembered.request != digest:
        detail = "This Idempotency-Key came with other events before; use a new key for each request."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    if remembered.answer is None:
        detail = "A request with this Idempotency-Key is being worked on; ask again for its answer."
        raise Problem(HTTPStatus.CONFLICT, detail, headers={"retry-after": "1"})
    return remembered.answer.encode()


def _response(ingest: Ingest, content: bytes, *, replayed: bool = False) -> Response[bytes]:
    headers = ingest.buffer.headers() | ({"idempotency-replayed": "true"} if replayed else {})
    return Response(content, status_code=HTTPStatus.ACCEPTED, media_type=JSON, headers=headers)


def _accepted(stream: Stream, batch: Batch, stored: Stored) -> Accepted:
    last = stored.first_row + stored.count - 1
    return Accepted(
        stream.name,
        stored.count,
        durable=True,
        accepted=stored.count - len(stored.broken),
        quarantined=len(stored.broken),
        reasons=_reasons(stream, stored.broken),
        receipt=Receipt(stored.landing.key, stored.first_row, last, stored.landing.arrived_at),
    )


def _reasons(stream: Stream, broken: Mapping[int, list[str]]) -> list[Reason]:
    found = ((row, reason) for row in sorted(broken) for reason in broken[row])
    return [
        Reason(row, _field(stream, reason), reason) for (row, reason), _ in zip(found, range(REASONS), strict=False)
    ]


def _field(stream: Stream, reason: str) -> str | None:
    """The field that a reason begins with, as all do that are about one."""
    name = reason.replace(":", " ").split(" ", 1)[0]
    return name if any(field.name == name for field in stream.contract.fields) else None


def _unavailable(detail: str) -> Problem:
    detail = f"{detail} What this request held may not be stored; send it again."
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "2"})


def _too_many(most: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request may hold at most {most} events; send them in several."
    )


router = Router("/v1/streams", route_handlers=[post_events], tags=["ingest"])
