"""`bootstrap` and `streams`: the tables of the lake, and the contracts they are made from."""

from typing import Any

from lakehouse.cli.options import Json
from lakehouse.cli.printing import console, print_json, print_table
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
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


def streams(as_json: Json = False) -> None:
    """List every stream. Raises ContractError if a contract or its SQL is invalid."""
    known = Lake(get_settings()).streams
    table_specs(known.values())
    rows: list[dict[str, Any]] = [
        {
            "stream": stream.name,
            "version": stream.contract.version,
            "key": list(stream.contract.key),
            "fields": len(stream.contract.fields),
            "history_start": str(stream.contract.history_start),
            "quality_threshold": stream.contract.quality_threshold,
            "folder": str(stream.folder),
            "description": stream.contract.description,
        }
        for stream in known.values()
    ]
    if as_json:
        print_json(rows)
        return
    cells = [[row["stream"], row["version"], row["fields"], ", ".join(row["key"]), row["description"]] for row in rows]
    print_table("", ["stream", "version", "fields", "key", "description"], cells, right=["fields"])
    console.print(f"{len(rows)} contracts are valid.")
