"""The files through which the processes of a server share their counters.

Does not import prometheus_client, which reads the folder's variable when it is first imported. See `metrics` for the
counters.
"""

import os
from pathlib import Path

import psutil

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable of prometheus_client that names the shared folder."""


def share_counters(folder: Path) -> None:
    """Make this process and its children share counters in `folder`, starting at zero.

    Prometheus takes counters that fall to zero for a restart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.db"):
        path.unlink(missing_ok=True)
    os.environ[FOLDER_VARIABLE] = str(folder)


def remove_gauges_of_dead_processes(folder: Path) -> None:
    """Remove the gauges of killed processes, which hold nothing any more. Their counters stay."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)
