"""Settings of a lakehouse on S3 and Glue, where moto stands in for AWS."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from lakehouse.settings import Settings

BUCKET = "lake"


@contextmanager
def moto() -> Iterator[str]:
    """Run moto's server, empty, and yield its URL."""
    from moto.server import ThreadedMotoServer  # takes a second, and few tests need it

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # Empty it, because moto keeps its state in the process, not in the server.
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    with urllib.request.urlopen(reset):
        pass
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def aws_settings(endpoint: str, home: Path, **options: Any) -> Settings:
    """Create the bucket at this endpoint and return the settings of a home there."""
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    s3.create_bucket(Bucket=BUCKET)
    return Settings(
        home=home,
        storage="external",
        s3_endpoint=endpoint,
        s3_access_key_id="a",
        s3_secret_access_key="b",
        catalog="glue",
        catalog_uri=endpoint,
        catalog_warehouse=f"s3://{BUCKET}/tables",
        **options,
    )
