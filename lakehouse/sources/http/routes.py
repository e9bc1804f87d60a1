"""`POST /v1/streams/{stream}/events`: land events and respond when they are stored."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, QueryParameter

from lakehouse.contracts.streams import Stream
from lakehouse.errors import LakehouseError
from lakehouse.http.api_keys import ApiKey
from lakehouse.http.auth import AccessControl
from lakehouse.http.idempotency import IdempotencyRecord, IdempotencyStore, request_hash
from lakehouse.http.problems import Problem, error_responses, unknown_stream
from lakehouse.sources.http.batch import build_batch
from lakehouse.sources.http.body import JSON, BodyReader, BufferLimit, is_ndjson
from lakehouse.sources.http.framing import MalformedBodyError, as_lines, split_rows
from lakehouse.sources.http.group_commit import GroupCommit, StoredBatch
from lakehouse.sources.http.intake import Intake, Intakes
from lakehouse.sources.http.sends import Sends

DEFAULT_REASONS = 20
"""Reasons in one response, unless the client asks for another number."""

MAX_REASONS = 1_000

MAX_IDEMPOTENCY_KEY_CHARACTERS = 255


class Reason(msgspec.Struct):
    """Why an event is quarantined."""

    row: int
    """The event's number in the request, from 1."""
    field: str | None
    """The contract's field; null when the event as a whole is at fault."""
    reason: str
    """What is wrong, in the words of the quarantine table."""


class Receipt(msgspec.Struct):
    """Where the events are stored."""

    object: str
    """Key of the landing object."""
    first_row: int
    """The number of the request's first row in it, from 1."""
    last_row: int
    """The number of the request's last row in it."""
    arrived_at: datetime
    """The arrival time of all rows in the object, UTC."""


class Accepted(msgspec.Struct):
    """The events are accepted."""

    stream: str
    events: int
    """Events in the request."""
    durable: bool
    """Whether they are stored on disk, so that they survive a power cut. False with `wait=false` and LAKEHOUSE_SYNC=false."""
    accepted: int | None = None
    """Valid events; null with `wait=false`."""
    quarantined: int | None = None
    """Events that break the contract. They are stored and go to quarantine."""
    reasons: list[Reason] = []
    """The first 20 reasons, or as many as `reasons` asks for."""
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Ingest:
    """The dependencies of the route; one per process."""

    intakes: Intakes
    commit: GroupCommit
    buffer: BufferLimit
    reader: BodyReader
    idempotency: IdempotencyStore
    access: AccessControl
    max_events: int
    sends: Sends
    durable: bool = True
    """Whether stored events survive a power cut."""


@dataclass
class _PostOperation(Operation):
    """Documents the request body, which Litestar can't infer because the handler streams it."""

    def __post_init__(self) -> None:
        event = Schema(type="object", description="One event, a JSON array of events, or one event on each line.")  # type: ignore[arg-type]
        content = {media_type: OpenAPIMediaType(schema=event) for media_type in ("application/x-ndjson", JSON)}
        self.request_body = RequestBody(
            content=content, description="Events in UTF-8, optionally compressed with gzip or zstd.", required=True
        )


@post(
    "/{stream:str}/events",
    status_code=HTTPStatus.ACCEPTED,
    operation_class=_PostOperation,
    responses={202: ResponseSpec(Accepted, description="The events are accepted", generate_examples=False)}
    | error_responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503),
    summary="Land events",
)
async def post_events(
    request: Request[Any, Any, Any],
    ingest: Ingest,
    stream: str,
    wait: Annotated[bool, QueryParameter(description="false: respond at once, before the events are stored")] = True,
    reasons: Annotated[
        int, QueryParameter(ge=0, le=MAX_REASONS, description="Maximum number of reasons in the answer")
    ] = DEFAULT_REASONS,
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key", description="A request with the same key within a day lands nothing again"
        ),
    ] = None,
) -> Response[bytes]:
    """Accept events of a stream. 202 means that they are stored; invalid events are stored too and go to quarantine."""
    key = ingest.access.authorize(request, "ingest", stream)
    intake = ingest.intakes.get(stream)
    if intake is None:
        raise unknown_stream(stream, sorted(ingest.intakes.streams))
    lines_only = is_ndjson(request)
    if ingest.commit.failing:
        raise _unavailable("Storage does not respond.")
    async with ingest.reader.body(request) as body:
        land = partial(_land, ingest, intake, body, key, lines_only=lines_only, reasons=reasons if wait else None)
        if idempotency_key is None:
            return _response(ingest, await land())
        return await _land_once(ingest, request, request_hash(stream, body), idempotency_key, land)


async def _land(
    ingest: Ingest, intake: Intake, body: bytes, key: ApiKey | None, *, lines_only: bool, reasons: int | None
) -> bytes:
    """Land the body's events and return the response as JSON, with so many reasons; None responds before they are stored."""
    try:
        lines = as_lines(body, lines_only=lines_only)
    except MalformedBodyError as error:
        detail = (
            f"The body can't be split into events: {error}. Nothing was stored."
            " Send NDJSON to have its valid lines accepted."
        )
        raise Problem(HTTPStatus.BAD_REQUEST, detail) from None
    if intake.opener:
        lines = b"".join(intake.opener.lines(split_rows(lines)))
    if lines.count(b"\n") > ingest.max_events:
        raise _too_many(ingest.max_events)
    name = intake.stream.name
    batch, stored = ingest.commit.add(name, partial(build_batch, intake.validator, lines))
    if stored is None:
        raise Problem(HTTPStatus.BAD_REQUEST, "The body has no event. Send at least one.")
    ingest.sends.count(key, name, batch.count)
    if reasons is None:
        return msgspec.json.encode(Accepted(name, batch.count, durable=False))
    try:
        return msgspec.json.encode(_accepted(ingest, intake.stream, await stored, reasons))
    except LakehouseError as error:
        raise _unavailable(str(error)) from error


async def _land_once(
    ingest: Ingest, request: Request[Any, Any, Any], digest: str, key: str, land: Callable[[], Awaitable[bytes]]
) -> Response[bytes]:
    """Land the events unless a request with this key has; then return the response that it got."""
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY_CHARACTERS:
        detail = f"An Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY_CHARACTERS} characters."
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    client_id = ingest.access.client_id(request)
    try:
        earlier = await ingest.idempotency.claim(client_id, key, digest)
    except LakehouseError as error:
        raise _unavailable(str(error)) from error
    if earlier is not None:
        return _response(ingest, _replay(earlier, digest), replayed=True)
    try:
        content = await land()
    except BaseException:
        with suppress(LakehouseError):
            await ingest.idempotency.release(client_id, key)
        raise
    with suppress(LakehouseError):  # the response is true without it: the events are stored
        await ingest.idempotency.save(client_id, key, digest, content)
    return _response(ingest, content)


def _replay(record: IdempotencyRecord, digest: str) -> bytes:
    if record.request != digest:
        detail = "This Idempotency-Key was sent with other events before. Use a new key for each request."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    if record.answer is None:
        detail = "A request with this Idempotency-Key is in progress. Send it again to get its response."
        raise Problem(HTTPStatus.CONFLICT, detail, headers={"retry-after": "1"})
    return record.answer.encode()


def _response(ingest: Ingest, content: bytes, *, replayed: bool = False) -> Response[bytes]:
    headers = ingest.buffer.headers() | ({"idempotency-replayed": "true"} if replayed else {})
    return Response(content, status_code=HTTPStatus.ACCEPTED, media_type=JSON, headers=headers)


def _accepted(ingest: Ingest, stream: Stream, stored: StoredBatch, reasons: int) -> Accepted:
    last_row = stored.first_row + stored.count - 1
    return Accepted(
        stream.name,
        stored.count,
        durable=ingest.durable,
        accepted=stored.count - len(stored.reasons),
        quarantined=len(stored.reasons),
        reasons=_first_reasons(stream, stored.reasons, reasons),
        receipt=Receipt(stored.landing.key, stored.first_row, last_row, stored.landing.arrived_at),
    )


def _first_reasons(stream: Stream, reasons: Mapping[int, list[str]], limit: int) -> list[Reason]:
    rows = ((row, reason) for row in sorted(reasons) for reason in reasons[row])
    return [Reason(row, _field(stream, reason), reason) for row, reason in islice(rows, limit)]


def _field(stream: Stream, reason: str) -> str | None:
    """Return the field that a reason is about: reasons about a field start with its name."""
    name = reason.replace(":", " ").split(" ", 1)[0]
    return name if any(field.name == name for field in stream.contract.fields) else None


def _unavailable(reason: str) -> Problem:
    detail = f"{reason} The events of this request may not be stored. Send it again."
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "2"})


def _too_many(max_events: int) -> Problem:
    detail = f"A request may have at most {max_events} events. Send several requests."
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


router = Router("/v1/streams", route_handlers=[post_events], tags=["ingest"])
