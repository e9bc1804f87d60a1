"""Processes are waited for, and identified by pid and creation time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from lakehouse.processes.child import (
    CLOCK_STEP_SECONDS,
    find_process,
    spawn,
    stop_child,
    stop_tree,
    wait_for_exit,
    wait_until_ready,
)

PARENT = "import subprocess, time; child = subprocess.Popen(['true']); print(child.pid, flush=True); time.sleep(60)"
"""Keeps its `Popen`, because a dropped one may be reaped."""


def test_zombie_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        dead = psutil.Process(int(parent.stdout.readline()))
        while dead.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        started = time.monotonic()
        assert wait_for_exit([dead], 20) == []
        assert time.monotonic() - started < 10
        alive = psutil.Process(parent.pid)
        assert wait_for_exit([alive, dead], 0.1) == [alive]
        parent.kill()
        assert wait_for_exit([alive], 20) == []


SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]
FAMILY = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    " print(child.pid, flush=True); time.sleep(60)",
]


def test_process_is_found_by_pid_and_creation_time(tmp_path: Path) -> None:
    child = spawn(SLEEP, tmp_path / "log", env=os.environ)
    created = psutil.Process(child.pid).create_time()
    assert find_process(child.pid, created + CLOCK_STEP_SECONDS / 2) == psutil.Process(child.pid)
    assert find_process(child.pid, created - 2 * CLOCK_STEP_SECONDS) is None
    child.kill()
    assert wait_until_ready(lambda: find_process(child.pid, created) is None, lambda: True, 20)
    child.wait()
    assert find_process(child.pid, created) is None


def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = spawn(STUBBORN, log, env=os.environ)
    assert wait_until_ready(lambda: log.read_text() == "ready\n", lambda: child.poll() is None, 20)
    stop_tree(psutil.Process(child.pid), 0.2)
    assert child.wait() in (0, -signal.SIGKILL)  # 0 once psutil has reaped it
    assert not psutil.pid_exists(child.pid)


def test_stop_child_ends_descendants_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = spawn(FAMILY, log, env=os.environ)
    assert wait_until_ready(lambda: log.read_text().endswith("\n"), lambda: child.poll() is None, 20)
    grandchild = psutil.Process(int(log.read_text()))
    stop_child(child, 20)
    assert wait_for_exit([grandchild], 20) == []
    assert child.returncode is not None


def test_ended_process_never_becomes_ready(tmp_path: Path) -> None:
    child = spawn([sys.executable, "-c", ""], tmp_path / "log", env=os.environ)
    assert wait_until_ready(lambda: False, lambda: child.poll() is None, 20) is False
