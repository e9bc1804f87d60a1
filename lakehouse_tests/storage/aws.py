"""Settings of a lakehouse on S3 and Glue, where moto stands in for AWS."""

from pathlib import Path
from typing import Any

import boto3

from lakehouse.settings import Settings

BUCKET = "lake"


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
