"""Route `/v1/withdrawals`: take landing objects out that were loaded by mistake, as `lakehouse withdraw` does."""

import asyncio
from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import Router, post

from lakehouse.audit_log.entries import Event
from lakehouse.errors import CommitConflictError, ObjectNotFoundError, UnknownStreamError
from lakehouse.http.api_keys import actor_of
from lakehouse.http.problems import Problem, error_responses, unknown_stream
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.withdrawal import find_objects, keys_by_stream, landing_key, withdraw_objects
from lakehouse.serving.api.state import HttpRequest, Serving

MAX_OBJECTS = 1_000


class WithdrawalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Landing objects to withdraw."""

    objects: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_OBJECTS)]
    """Their keys, as the column `_object` has them, or their URLs."""
    dry_run: bool = False
    """Whether rows are only counted, and nothing changes."""


class WithdrawnObjects(msgspec.Struct, frozen=True):
    """Landing objects of a stream, withdrawn or to withdraw."""

    stream: str
    objects: dict[str, int]
    """Rows that bronze holds, by landing object."""
    days: str
    """Event dates of the rows, such as `2025-11-18..2025-11-20,2025-11-22`. Layers below bronze compute them again."""
    record: str | None
    """The key of the record; null for a dry run."""


@post(
    "/",
    status_code=HTTPStatus.OK,
    summary="Withdraw landing objects",
    responses=error_responses(400, 401, 403, 404, 409, 503),
)
async def withdraw(request: HttpRequest, serving: Serving, data: WithdrawalRequest) -> list[WithdrawnObjects]:
    """Delete landing objects with all of their rows, or count them in a dry run. Needs a key of the scope admin.

    Bronze and realtime lack the rows when the answer comes. The sensor `late_data` computes the layers below within a
    minute. The same content can be loaded again later.
    """
    serving.access.authorize(request, "admin")
    try:
        by_stream = keys_by_stream(serving.lake, [_landing_key(serving.lake, name) for name in data.objects])
    except UnknownStreamError:
        raise unknown_stream(_first_unknown(serving, data.objects), sorted(serving.snapshot.streams)) from None
    key = serving.access.authorize(request, "admin", *by_stream)
    if not data.dry_run:
        event = Event(actor_of(key), "withdraw", ", ".join(by_stream), {"objects": data.objects})
        await asyncio.to_thread(serving.audit_log.write, event)
    try:
        return await asyncio.to_thread(_withdraw, serving, by_stream, dry_run=data.dry_run)
    except ObjectNotFoundError as error:
        raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None
    except CommitConflictError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), headers={"retry-after": "5"}) from None


def _landing_key(lake: Lake, name: str) -> str:
    key = landing_key(lake, name)
    if key is None:
        detail = f"{name[:200]!r} is no landing object. Name it as the column _object does: incoming/… or realtime/…."
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    return key


def _first_unknown(serving: Serving, names: list[str]) -> str:
    streams = [_landing_key(serving.lake, name).split("/", 2)[1] for name in names]
    return next((stream for stream in streams if stream not in serving.snapshot.streams), "")


def _withdraw(serving: Serving, by_stream: dict[str, list[str]], *, dry_run: bool) -> list[WithdrawnObjects]:
    """Withdraw with a lake of its own, because that of the serving process reads metadata only."""
    lake = Lake(serving.settings, serving.lake.connection)
    try:
        # All are looked for before the first is withdrawn, so that one wrong key withdraws nothing.
        found = [find_objects(lake, lake.stream(name), keys) for name, keys in by_stream.items()]
        if not dry_run:
            found = [withdraw_objects(lake, lake.stream(each.stream), [*each.rows]) for each in found]
    finally:
        lake.engine.close()
    return [WithdrawnObjects(**each.as_json()) for each in found]


router = Router("/v1/withdrawals", route_handlers=[withdraw], tags=["alerts and quarantine"])
