"""`receipt`: the outcome of one row that has landed."""

from dataclasses import asdict
from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import console, print_json
from lakehouse.errors import ObjectNotFoundError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.row_receipts import MEANINGS, Place, find_row_here
from lakehouse.pipeline.withdrawal import keys_by_stream, landing_key
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

Key = Annotated[
    str, typer.Argument(metavar="OBJECT", help="A landing object: `receipt.object` of a POST, or `_object`.")
]
Row = Annotated[int, typer.Argument(min=1, help="The number of the row in it, from 1, as `_row` has it.")]


def receipt(key: Key, row: Row, as_json: Json = False) -> None:
    """Say in which layer a row is, whose duplicate it is, why it was rejected, or why it is gone.

    Raises ObjectNotFoundError if there is no such row, and UnknownStreamError.
    """
    settings = get_settings()
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        if (name := landing_key(lake, key)) is None or name.count("/") < 2:
            raise ObjectNotFoundError(f"{key} is no landing object: their keys begin with incoming/ or realtime/.")
        (stream,) = keys_by_stream(lake, [name])
        found = find_row_here(lake, lake.stream(stream), Place(name, row))
    if found is None:
        raise ObjectNotFoundError(f"{name} has no row {row}, or there is no such object.")
    if as_json:
        day = found.day.isoformat() if found.day else None
        print_json(
            {
                "stream": stream,
                "object": name,
                "row": row,
                "meaning": MEANINGS[found.outcome],
                **asdict(found),
                "day": day,
            }
        )
        return
    console.print(f"{found.outcome}: {MEANINGS[found.outcome]}", soft_wrap=True)
    if found.day:
        console.print(f"day: {found.day}")
    for reason in found.reasons:
        console.print(f"reason: {reason}", markup=False, soft_wrap=True)
    if twin := found.duplicate_of:
        console.print(f"silver has row {twin.row} of {twin.object}", markup=False, soft_wrap=True)
