"""Serve Spark Connect in this process by Sail, so that its CPU is this process's and no JVM is needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from lakehouse.errors import LakehouseError


@contextmanager
def sail() -> Iterator[str]:
    """Give the address of a server that ends with the block. Raises LakehouseError without the package `pysail`."""
    try:
        from pysail.spark import SparkConnectServer  # type: ignore[import-untyped]
        from pyspark.sql.connect.session import SparkSession
    except ImportError:
        raise LakehouseError("This needs Sail. Run: pip install pysail 'lakehouse[spark]'") from None
    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    try:
        yield f"sc://{host}:{port}"
    finally:
        if session := SparkSession.getActiveSession():
            session.stop()  # else the client asks for its session at exit, and waits for an answer
        server.stop()
