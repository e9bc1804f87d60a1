"""The Dagster instance of one lakehouse: its home folder and its `dagster.yaml`.

The format is https://docs.dagster.io/deployment/oss/dagster-yaml.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock

from lakehouse.errors import LakehouseError
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.home import private_home
from lakehouse.runtime.history_files import check_history
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

STREAM_TAG = "lakehouse/stream"
LANE_TAG = "lakehouse/lane"
"""The queue starts runs with the same value of this tag one at a time."""

EVENT_BATCH_SIZE = 1000
"""How many events Dagster passes to its storage at once, where a step emits many (one a partition)."""


def lane_tags(job: str, stream: str) -> dict[str, str]:
    """Make the run tags that keep two runs of one job over one stream from running at once."""
    return {STREAM_TAG: stream, LANE_TAG: f"{job}.{stream}"}


def dagster_home(settings: Settings) -> Path:
    """Create DAGSTER_HOME under the lakehouse's home, write its `dagster.yaml`, and give its path.

    A file that differs is replaced, such as one of a release whose classes had other names. An unchanged file is not
    touched. Safe to call from several processes at once.
    """
    home = private_home(settings) / "dagster"
    home.mkdir(exist_ok=True)
    file = home / "dagster.yaml"
    text = "# Written by lakehouse; changes are lost.\n" + yaml.dump(
        _configuration(settings, home), Dumper=_Plain, sort_keys=False
    )
    if not file.exists() or file.read_text() != text:
        write_private(file, text)
    return home


def run_forker_state(settings: Settings) -> Path:
    """Return the file in which the run forker publishes its port and key."""
    return settings.root / "dagster" / "warm.json"


def loaded_definitions(settings: Settings) -> Path:
    """Return the file that the code server writes each time that it has loaded the definitions."""
    return settings.root / "dagster" / "loaded"


def open_instance(settings: Settings) -> "DagsterInstance":
    """Open the Dagster instance of this lakehouse. It is a context manager; the caller closes it.

    Raises LakehouseError if its history is damaged so that it can't be opened.
    """
    from dagster import DagsterInstance  # imported here, because it takes a second that `lakehouse status` can save

    home = dagster_home(settings)
    with FileLock(home / "open.lock"):  # because Dagster's tables can't be made by two processes at once
        try:
            return DagsterInstance.from_config(str(home))
        except Exception:
            check_history(home)
            raise


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that Dagster's processes need beside those of this process."""
    return {
        "DAGSTER_HOME": str(dagster_home(settings)),
        "LAKEHOUSE_HOME": str(settings.root),
        "DAGSTER_EVENT_BATCH_SIZE": str(EVENT_BATCH_SIZE),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }


def _configuration(settings: Settings, home: Path) -> dict[str, Any]:
    return {
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        **_history(settings, home),
        "compute_logs": _compute_logs(settings, home),
        **({"run_launcher": _run_launcher(settings)} if settings.warm_runs else {}),
        "run_queue": {"dequeue_interval_seconds": 1},
        # No default pool limit: a pool limits nothing until it is given a limit.
        "concurrency": {"runs": _run_limits()},
        "run_monitoring": _run_monitoring(),
        # Assets retry their own errors; a run is retried only when its process died.
        "run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False},
        "retention": dict.fromkeys(("schedule", "sensor", "auto_materialize"), _ticks(settings)),
    }


def _history(settings: Settings, home: Path) -> dict[str, Any]:
    if settings.dagster_postgres_url is not None:
        if importlib.util.find_spec("dagster_postgres") is None:
            raise LakehouseError(
                "LAKEHOUSE_DAGSTER_POSTGRES_URL needs dagster-postgres: pip install 'lakehouse[postgres]'."
            )
        # SQLAlchemy 2.1 takes a URL without a driver for psycopg 3's; dagster-postgres brings psycopg2.
        address = settings.dagster_postgres_url.get_secret_value().split("://", 1)[-1]
        # Dagster's own processes read the password from this file only; it is readable by its owner alone.
        return {"storage": {"postgres": {"postgres_url": f"postgresql+psycopg2://{address}"}}}
    return {
        "event_log_storage": {
            "module": "lakehouse.runtime.event_log",
            "class": "PooledSqliteEventLogStorage",
            "config": {"base_dir": str(home / "history")},
        }
    }


def _ticks(settings: Settings) -> dict[str, Any]:
    """Return how long Dagster's daemon keeps the ticks of schedules and sensors."""
    days, failed = settings.history_days, settings.failed_history_days
    return {"purge_after_days": {"skipped": 1, "started": days, "success": days, "failure": failed}}


def _compute_logs(settings: Settings, home: Path) -> dict[str, Any]:
    if settings.compute_logs == "local":
        return {
            "module": "dagster._core.storage.local_compute_log_manager",  # the path that Dagster's documentation names
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(home / "logs")},
        }
    config = {"bucket": settings.bucket, "prefix": "dagster", "region": settings.s3_region}
    if settings.s3_endpoint is not None:
        config["endpoint_url"] = settings.s3_endpoint
    return {"module": "dagster_aws.s3.compute_log_manager", "class": "S3ComputeLogManager", "config": config}


def _run_launcher(settings: Settings) -> dict[str, Any]:
    return {
        "module": "lakehouse.runtime.run_launcher",
        "class": "ForkingRunLauncher",
        "config": {"state": str(run_forker_state(settings))},
    }


def _run_limits() -> dict[str, Any]:
    return {
        # One for each cadence: realtime, batch, serving. More would only share the same cores and memory.
        "max_concurrent_runs": 3,
        "tag_concurrency_limits": [
            {"key": LANE_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
            # A backfill leaves room for a scheduled run.
            {"key": "dagster/backfill", "limit": 2},
        ],
    }


def _run_monitoring() -> dict[str, Any]:
    return {
        "enabled": True,
        "poll_interval_seconds": 30,
        "start_timeout_seconds": 180,
        "cancel_timeout_seconds": 60,
        # Ends a run that hangs or whose machine is lost. A run whose process died is detected at the next poll.
        "max_runtime_seconds": 6 * 3600,
        "free_slots_after_run_end_seconds": 60,
    }


class _Plain(yaml.SafeDumper):
    """Write values that occur twice in full, without YAML aliases, for people to read."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never use an alias."""
        return True
