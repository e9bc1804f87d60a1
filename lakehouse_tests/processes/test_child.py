"""Stopping a server waits for what lives, and for nothing else."""

import subprocess
import sys
import time

import psutil

from lakehouse.processes.child import wait_for_exit

PARENT = "import subprocess, time; child = subprocess.Popen(['true']); print(child.pid, flush=True); time.sleep(60)"
"""It holds on to its child: what is let go of may be buried by `Popen`."""


def test_a_dead_process_that_nobody_has_buried_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        dead = psutil.Process(int(parent.stdout.readline()))
        while dead.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        began = time.monotonic()
        assert wait_for_exit([dead], 20) == []
        assert time.monotonic() - began < 10
        lives = psutil.Process(parent.pid)
        assert wait_for_exit([lives, dead], 0.1) == [lives]
        parent.kill()
        assert wait_for_exit([lives], 20) == []
