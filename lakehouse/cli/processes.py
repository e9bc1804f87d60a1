"""`down` and `status`. They import no more than they need to find processes, so that they answer at once."""

import shlex
from typing import Any

from lakehouse.cli.options import Json
from lakehouse.cli.printing import console, print_json, print_table, print_text
from lakehouse.http.api_keys import local_key
from lakehouse.processes.problems import read_problems
from lakehouse.processes.service import get_json
from lakehouse.runtime import supervisor
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.serving.api import server as serving
from lakehouse.settings import Settings, get_settings
from lakehouse.storage.embedded import lifecycle as storage


def down() -> None:
    """Stop the supervisor, then servers that were started by themselves, and storage last."""
    settings = get_settings()
    stopped = supervisor.stop(settings)
    for service in (http_server, serving, storage):
        stopped = service.stop(settings) or stopped
    console.print("The lakehouse is down." if stopped else "The lakehouse was not up.")


def status(as_json: Json = False) -> None:
    """Print every process; exit with 0 when the lakehouse is up, else with 1."""
    state = _state(get_settings())
    if as_json:
        print_json(state)
    else:
        rows = [
            [p["name"], "running" if p["running"] else "not running", p["pid"] or "", p["url"] or "", p["restarts"]]
            for p in state["processes"]
        ]
        print_table("", ["process", "state", "pid", "where", "restarts"], rows, right=["restarts"])
        console.print(f"home {state['home']}, {state['bytes_stored']:,} bytes stored")
        for problem in state["problems"]:
            print_text(f"Problem: {problem}")
        for each in state["blocked_objects"]:
            print_text(
                f"Blocked by the quality gate: {each['object']}: {each['valid']:,} of {each['rows']:,} rows valid on"
                f" {each['day']}. `lakehouse withdraw {shlex.quote(each['object'])}` takes it out."
            )
        for entry in state["left_out"]:
            more = entry["count"] - len(entry["objects"])
            names = ", ".join([*entry["objects"], *([f"{more:,} more"] if more else [])])
            print_text(f"Left out: {names}: {entry['reason']}.")
    raise SystemExit(0 if state["up"] else 1)


def _state(settings: Settings) -> dict[str, Any]:
    server, overview = storage.status(settings), _overview(settings)
    state = supervisor.read_state(settings)
    processes: list[dict[str, Any]] = [
        {
            "name": "storage",
            "running": server.running,
            "pid": server.pid,
            "url": server.endpoint,
            "catalog": server.catalog_uri,
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
        "up": server.running and state is not None and state.ready and all(p["running"] for p in processes),
        "home": str(settings.root),
        "bytes_stored": server.bytes_used,
        "processes": processes,
        "problems": read_problems(settings) if state else [],
        "blocked_objects": [blocked for stream in overview.get("streams", ()) for blocked in stream["blocked_objects"]],
        "left_out": overview.get("left_out", []),
    }


def _overview(settings: Settings) -> dict[str, Any]:
    """Ask the serving process what the quality gate blocks and what is left out of landing; empty if it does not run."""
    service = serving.running(settings)
    return (get_json(service, "/v1/overview", local_key(settings)) if service else None) or {}
