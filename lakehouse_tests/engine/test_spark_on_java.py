"""Tasks of Spark itself, which needs Java: what becomes of them when a process is killed or gives up."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from lakehouse.engine.connection import DuckDB
from lakehouse.engine.shipping import Machine
from lakehouse.engine.spark import SparkWorkers
from lakehouse.errors import EngineError
from lakehouse.storage.objects.connection import Connection
from lakehouse_tests.nightly import NIGHTLY

pytestmark = pytest.mark.skipif(
    not NIGHTLY or shutil.which("java") is None, reason="starts a JVM; NIGHTLY=1 runs it, with Java"
)


@pytest.fixture
def spark(connection: Connection) -> SparkWorkers:
    return SparkWorkers("local[2]", Machine(connection, memory_limit_mb=256, spill_mb=256))


def _dies(_: DuckDB, item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_killed_worker_is_an_error_that_says_so(spark: SparkWorkers) -> None:
    with pytest.raises(EngineError, match=r"Spark at local\[2\] gave up: Python worker exited unexpectedly"):
        [*spark.spread(_dies, range(3))]
    assert [*spark.spread(_dies, [0, 2])] == [0, 2]


def _waits(_: DuckDB, folder: Path) -> None:
    (folder / f"started-{os.getpid()}").touch()
    time.sleep(5)
    (folder / f"ended-{os.getpid()}").touch()


def test_tasks_of_a_run_that_is_stopped_are_stopped(spark: SparkWorkers, tmp_path: Path) -> None:
    def stop() -> None:
        while not [*tmp_path.glob("started-*")]:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises((KeyboardInterrupt, EngineError)):
        [*spark.spread(_waits, [tmp_path])]
    time.sleep(7)
    assert [file.name for file in tmp_path.glob("ended-*")] == []
