"""Render the asset graph as plain data, so that a review shows every change of it.

`python -m lakehouse_tests.assets.graph` rewrites `graph.json`.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from lakehouse.assets.graph import build_assets
from lakehouse.automation.build import build_definitions
from lakehouse.contracts.streams import discover
from lakehouse.settings import Settings

FILE = Path(__file__).with_name("graph.json")
REALTIME_START = date(2025, 1, 1)


def specs() -> list[dg.AssetSpec]:
    """List the specs of every asset of the shipped streams, by key."""
    resolved = build_definitions(Settings(realtime_start=REALTIME_START)).resolve_all_asset_specs()
    return sorted(resolved, key=lambda spec: spec.key)


def checks() -> dict[str, list[str]]:
    """List the names of each asset's checks, with the blocking ones marked."""
    names: dict[str, list[str]] = {}
    for asset in build_assets(discover(), REALTIME_START):
        if isinstance(asset, dg.AssetsDefinition):
            for check in asset.check_specs:
                name = f"{check.name}{' (blocking)' if check.blocking else ''}"
                names.setdefault(check.asset_key.to_user_string(), []).append(name)
    return names


def as_data() -> dict[str, Any]:
    """Build the graph that a review sees, by asset key."""
    by_asset = checks()
    return {
        spec.key.to_user_string(): {
            "group": spec.group_name,
            "deps": sorted(_dep(dep) for dep in spec.deps),
            "owners": sorted(spec.owners),
            "tags": {name: value for name, value in sorted(spec.tags.items()) if not name.startswith("dagster/kind")},
            "kinds": sorted(spec.kinds),
            "partitions": _partitions(spec.partitions_def),
            "checks": sorted(by_asset.get(spec.key.to_user_string(), [])),
        }
        for spec in specs()
    }


def _dep(dep: dg.AssetDep) -> str:
    mapping = f" by {type(dep.partition_mapping).__name__}" if dep.partition_mapping else ""
    return dep.asset_key.to_user_string() + mapping


def _partitions(partitions: dg.PartitionsDefinition[Any] | None) -> str | None:
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return f"{partitions.cron_schedule} {partitions.timezone} from {partitions.start:%Y-%m-%d}"
    return None


def as_text() -> str:
    """Return the file's content."""
    return json.dumps(as_data(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(as_text())
