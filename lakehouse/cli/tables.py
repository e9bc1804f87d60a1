"""`bootstrap`: the tables of the lake."""

from lakehouse.cli.options import Json
from lakehouse.cli.printing import console, print_json
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage


def bootstrap(as_json: Json = False) -> None:
    """Create or evolve every table, and print each change."""
    settings = get_settings()
    with storage.running(settings) as connection:
        changes = Lake(settings, connection).bootstrap()
    if as_json:
        print_json(changes)
    else:
        console.print("\n".join(changes) or "All tables match their contracts.")
