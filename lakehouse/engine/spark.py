"""Run functions on Apache Spark: by Spark Connect, on a cluster, or in processes of this machine.

Spark only carries bytes. Its Python workers run this package's own functions with DuckDB, and give back what they return.
"""

import logging
import os
import pickle
import re
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa

from lakehouse.engine.connection import DuckDB
from lakehouse.engine.shipping import RESULT, Machine, pack, run_items, unpack
from lakehouse.errors import EngineError
from lakehouse.storage.objects.errors import first_line

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

ITEM_BYTES = 32 << 20
"""How much of its input a task reads, where parts are smaller."""

QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}

UTC = {"spark.sql.session.timeZone": "UTC"}

ON_THIS_MACHINE = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
"""Without it, Spark opens ports to the network."""

SUBMITTED = "spark-submit"
"""The address of the Spark that has started this process, which configures the session."""

CORES_OF_AN_EXECUTOR = 1

CONNECT_PORT = 15002
"""The port of Spark Connect where the address names none."""

ANSWER_SECONDS = 10.0

RETRIES = 6
"""How often a request to the server is made again, which takes some ten seconds."""

MAX_REASON = 400

_PYTHON_ERROR = re.compile(r"^(?:[\w.]+)(?:Error|Exception): .*$", re.MULTILINE)
_JVM = ("org.", "java.", "py4j.")
_JVM_ERROR = re.compile(r"^.*\borg\.[\w.]+(?:Error|Exception): (.+)$", re.MULTILINE)


class SparkWorkers:
    """The workers of a Spark session, which is opened with the first item."""

    def __init__(self, address: str, machine: Machine) -> None:
        """Describe the session.

        Args:
            address: `sc://host:port` of a Spark Connect server, or a master such as `local[*]`.
            machine: What a task's database needs to know. The workers need this package.

        """
        self._address = address
        self._machine = machine

    def spread(self, function: Callable[[DuckDB, T], R], items: Iterable[T]) -> Iterator[R]:
        """Return what the function makes of each item, in their order, a task for each.

        Raises EngineError if Spark can't be reached or gives up on a task.
        """
        packed = [pack(self._machine, function, item) for item in items]
        if not packed:
            return
        log.info("%d tasks of %s go to Spark at %s", len(packed), function.__module__, self._address)
        with self._job() as session:
            table = pa.table(
                {"number": pa.array(range(len(packed)), pa.int32()), "item": pa.array(packed, pa.binary())}
            )
            # Of a single partition, Spark deals the rows out one by one. So each task has one item.
            frame = session.createDataFrame(table).coalesce(1).repartition(len(packed))
            run = partial(run_items, version("lakehouse"), pickle.dumps(self._machine))
            found = frame.mapInArrow(run, RESULT).toArrow().sort_by("number")
        yield from map(unpack, found["result"].to_pylist())

    def split(self, parts: Sequence[T], size: Callable[[T], int] | None = None) -> list[Sequence[T]]:
        """Cut parts into items, one for each unless `size` tells their bytes."""
        if size is None:
            return [[part] for part in parts]
        items: list[Sequence[T]] = []
        item: list[T] = []
        held = 0
        for part in parts:
            if item and held + size(part) > ITEM_BYTES:
                items.append(item)
                item, held = [], 0
            item.append(part)
            held += size(part)
        return [*items, item] if item else items

    def pieces(self, wanted: int) -> int:
        """Cut it into as many as are wanted."""
        return wanted

    @contextmanager
    def _job(self) -> Iterator[Any]:
        """Give the session, and cancel its tasks if this process gives up first."""
        try:  # here, because few lakes need it and it takes a second
            from py4j.protocol import Py4JError  # type: ignore[import-untyped]
            from pyspark.errors import PySparkException
        except ImportError as error:
            raise EngineError("LAKEHOUSE_ENGINE=spark needs pyspark. Run: pip install 'lakehouse[spark]'") from error
        tag, spark_errors = f"lakehouse-{uuid4().hex}", (PySparkException, Py4JError)
        try:
            session = self._session
            session.addTag(tag)
            try:
                yield session
            except spark_errors:
                raise
            except BaseException:
                with suppress(*spark_errors):  # the server may be gone, and the first error says more
                    session.interruptTag(tag)
                raise
            finally:
                session.removeTag(tag)
        except spark_errors as error:
            raise EngineError(f"Spark at {self._address} gave up: {_reason(error)}") from error

    @cached_property
    def _session(self) -> Any:
        from pyspark.sql import SparkSession

        if self._address == SUBMITTED:
            return SparkSession.builder.getOrCreate()
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # which is not used here
        if self._address.startswith("sc://"):
            return self._connected(SparkSession)
        # Spark's own workers start `python3`, which may be another one than that which runs this.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = SparkSession.builder.master(self._address).appName("lakehouse")
        of_address = ON_THIS_MACHINE if self._address.startswith("local") else self._executors
        for name, value in (QUIET | UTC | of_address).items():
            builder = builder.config(name, value)
        return builder.getOrCreate()

    @property
    def _executors(self) -> dict[str, str]:
        """Configure executors of a cluster: one task each, with twice DuckDB's limit of memory outside of the JVM."""
        return {
            "spark.executor.cores": str(CORES_OF_AN_EXECUTOR),
            "spark.task.cpus": str(CORES_OF_AN_EXECUTOR),
            "spark.executor.memoryOverhead": f"{2 * self._machine.memory_limit_mb}m",
        }

    def _connected(self, session_type: Any) -> Any:
        """Connect to a server. pyspark would try for ten minutes to reach one that does not answer."""
        from pyspark.sql.connect.client.retries import DefaultPolicy

        server = urlsplit(self._address)
        try:
            socket.create_connection((server.hostname or "", server.port or CONNECT_PORT), ANSWER_SECONDS).close()
        except (OSError, ValueError) as error:
            raise EngineError(f"Spark at {self._address} does not answer ({error}); see LAKEHOUSE_SPARK.") from error
        session = session_type.builder.remote(self._address).getOrCreate()
        session.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES, max_backoff=4000)])
        return session


def _reason(error: Exception) -> str:
    """Return the line that says what failed: the last error of a worker's traceback, else Spark's own last one."""
    message = str(error)
    errors = [line for line in _PYTHON_ERROR.findall(message) if not line.startswith(_JVM)]
    errors = errors or _JVM_ERROR.findall(message)
    return (errors[-1] if errors else first_line(error))[:MAX_REASON]
