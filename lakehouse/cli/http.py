"""`send` and `keys`: what has to do with the HTTP server."""

from collections.abc import Sequence
from pathlib import Path

from lakehouse.cli.load import all_files
from lakehouse.cli.printing import console, print_json, print_table, progress
from lakehouse.errors import LakehouseError
from lakehouse.http import api_keys as keys
from lakehouse.http.api_keys import SCOPES, Scope
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings
from lakehouse.sources.http.client import DeliveryCounts, find_target
from lakehouse.sources.http.replay import send


def send_files(stream: str, paths: Sequence[Path], rate: float | None, *, as_json: bool) -> None:
    """Post the files' rows to the HTTP server; what it has taken before is not sent again."""
    settings = get_settings()
    found = Lake(settings).stream(stream)
    files = [file for path in paths for file in all_files(path)]
    target = find_target(settings)
    with progress() as bars:
        tasks = {file: bars.add_task(file.name, total=None) for file in files}

        def advance(path: Path, delivered: DeliveryCounts) -> None:
            bars.update(tasks[path], completed=delivered.accepted + delivered.quarantined)

        sent = send(settings, found, files, target, rate=rate, on_progress=advance)
    rows = [
        {
            "file": str(one.path),
            "accepted": one.delivered.accepted,
            "quarantined": one.delivered.quarantined,
            "sent_before": one.was_already_sent,
        }
        for one in sent
    ]
    if as_json:
        print_json(rows)
    else:
        print_table("", list(rows[0]), [list(row.values()) for row in rows], right=["accepted", "quarantined"])


def create_key(name: str, scopes: Sequence[str], streams: Sequence[str]) -> None:
    """Make a key and print its secret, which is shown this once."""
    wrong = [scope for scope in scopes if scope not in SCOPES]
    if wrong:
        raise LakehouseError(f"There is no scope {', '.join(wrong)}; there are {', '.join(SCOPES)}.")
    settings = get_settings()
    lake = Lake(settings)
    for stream in streams:
        lake.stream(stream)
    chosen: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope in scopes)
    key, secret = keys.create(settings, name, chosen, tuple(streams))
    console.print(f"Key {key.id} of {key.name}; keep it now, it is not shown again:", highlight=False)
    console.print(secret, highlight=False, soft_wrap=True)


def list_keys(*, as_json: bool) -> None:
    """Print the keys there are, without their secrets."""
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "scopes": ", ".join(key.scopes),
            "streams": ", ".join(key.streams) or "all",
            "created": key.created.isoformat(timespec="seconds"),
        }
        for key in keys.list_keys(get_settings())
    ]
    if as_json:
        print_json(rows)
    else:
        columns = ["id", "name", "scopes", "streams", "created"]
        print_table("", columns, [[row[column] for column in columns] for row in rows])


def revoke_key(key_id: str) -> None:
    """Make a key good for nothing, within a second."""
    key = keys.revoke(get_settings(), key_id)
    console.print(f"Key {key.id} of {key.name} is revoked.")
