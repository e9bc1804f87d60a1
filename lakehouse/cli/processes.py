"""`down` and `status`, which import no more than they need to find processes."""

from typing import Any

from lakehouse.cli.printing import console, print_json, print_table
from lakehouse.runtime import supervisor
from lakehouse.serving.api import server as serving
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import server as http
from lakehouse.storage.embedded import lifecycle as server


def stop() -> None:
    """Stop everything."""
    settings = get_settings()
    stopped = supervisor.stop(settings)
    for one in (http, serving, server):  # a server that was started by itself too, and storage last
        stopped = one.stop(settings) or stopped
    console.print("The lakehouse is down." if stopped else "The lakehouse was not up.")


def show_status(*, as_json: bool) -> int:
    """Print what runs; 0 when the lakehouse is up, else 1."""
    settings = get_settings()
    found = _status(settings)
    if as_json:
        print_json(found)
    else:
        rows = [
            [p["name"], "running" if p["running"] else "not running", p["pid"] or "", p["url"] or "", p["restarts"]]
            for p in found["processes"]
        ]
        print_table("", ["process", "state", "pid", "where", "restarts"], rows, right=["restarts"])
        console.print(f"home {found['home']}, {found['bytes_stored']:,} bytes stored")
    return 0 if found["up"] else 1


def _status(settings: Settings) -> dict[str, Any]:
    storage = server.status(settings)
    state = supervisor.read_state(settings)
    processes: list[dict[str, Any]] = [
        {
            "name": "storage",
            "running": storage.running,
            "pid": storage.pid,
            "url": storage.endpoint,
            "catalog": storage.catalog_uri,
            "restarts": 0,
        }
    ]
    for child in [state.supervisor, *state.children] if state else []:
        running = child.process is not None
        processes.append(
            {
                "name": child.name,
                "running": running,
                "pid": child.pid if running else None,
                "url": child.url,
                "restarts": child.restarts,
            }
        )
    return {
        "up": storage.running and state is not None and state.ready and all(p["running"] for p in processes),
        "home": str(settings.root),
        "bytes_stored": storage.bytes_used,
        "processes": processes,
    }
