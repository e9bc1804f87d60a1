"""`keys`: the API keys of the HTTP server."""

from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import print_json, print_table, print_text
from lakehouse.errors import LakehouseError
from lakehouse.http import api_keys
from lakehouse.http.api_keys import DEFAULT_SCOPES, SCOPES, Scope
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings

keys = typer.Typer(no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="The key's owner.")]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="ingest, query or admin; the first two when you give none.")
]
StreamsOfKey = Annotated[
    list[str] | None, typer.Option("--stream", help="A stream that the key may use; all when you give none.")
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id that `keys list` shows.")]


@keys.command("create")
def create(name: Name, scope: Scopes = None, stream: StreamsOfKey = None) -> None:
    """Create a key and print its secret, this once."""
    scopes, streams = scope or list(DEFAULT_SCOPES), stream or []
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise LakehouseError(f"There is no scope {', '.join(unknown)}; there are {', '.join(SCOPES)}.")
    settings = get_settings()
    lake = Lake(settings)
    for stream_name in streams:
        lake.stream(stream_name)
    chosen: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope in scopes)
    key, secret = api_keys.create(settings, name, chosen, tuple(streams))
    print_text(f"Key {key.id} of {key.name}; keep it now, it is not shown again:")
    print_text(secret)


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "scopes": ", ".join(key.scopes),
            "streams": ", ".join(key.streams) or "all",
            "created": key.created.isoformat(timespec="seconds"),
        }
        for key in api_keys.list_keys(get_settings())
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ["id", "name", "scopes", "streams", "created"]
        print_table("", columns, [[row[column] for column in columns] for row in rows])


@keys.command("revoke")
def revoke(key_id: KeyId) -> None:
    """Revoke a key. The HTTP server stops accepting it within a second."""
    key = api_keys.revoke(get_settings(), key_id)
    print_text(f"Key {key.id} of {key.name} is revoked.")
