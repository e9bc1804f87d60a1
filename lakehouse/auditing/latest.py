"""The findings that audits have left, in the home: what was wrong when a partition was audited last."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

from filelock import FileLock

from lakehouse.auditing.findings import Report
from lakehouse.contracts.streams import Stream
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_tables import models_below
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.home import private_home
from lakehouse.settings import Settings

LOCK_SECONDS = 30.0


def record_audit(lake: Lake, streams: Sequence[Stream], first: date | None, last: date | None, report: Report) -> None:
    """Record the wrong partitions of an audit. Those of other days stay as they were."""
    path = _path(lake.settings)
    private_home(lake.settings)
    path.parent.mkdir(exist_ok=True)
    models = [model.name for stream in streams for model in models_below(lake, stream)]
    with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
        wrong = {name: set(partitions) for name, partitions in _read(path).items()}
        for name in {*(stream.name for stream in streams), *models}:
            kept = {each for each in wrong.get(name, ()) if not _is_within(each.rpartition(" ")[2], first, last)}
            found = {f"{each.layer} {each.partition}" for each in report.wrong if each.stream == name}
            wrong[name] = kept | found
        write_private(path, json.dumps({name: sorted(partitions) for name, partitions in sorted(wrong.items())}))


def wrong_partitions(settings: Settings) -> dict[str, int]:
    """Return how many partitions of each audited stream and model were wrong when they were audited last."""
    return {name: len(partitions) for name, partitions in _read(_path(settings)).items()}


def _is_within(partition: str, first: date | None, last: date | None) -> bool:
    """Return whether a partition was audited. One that is no day always is."""
    with suppress(ValueError):
        day = date.fromisoformat(partition)
        return (first is None or day >= first) and (last is None or day <= last)
    return True


def _read(path: Path) -> Mapping[str, list[str]]:
    try:
        content: Mapping[str, list[str]] = json.loads(path.read_bytes())
    except (OSError, ValueError):  # nothing was audited yet
        return {}
    return content


def _path(settings: Settings) -> Path:
    return settings.root / "audit" / "wrong.json"
