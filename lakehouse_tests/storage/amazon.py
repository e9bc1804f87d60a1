"""Settings of a lakehouse on S3 and Glue, with moto in their place."""

from pathlib import Path
from typing import Any

import boto3

from lakehouse.settings import Settings

BUCKET = "lake"


def s3_and_glue(aws: str, home: Path, **more: Any) -> Settings:
    """A home whose bucket is made, at this address."""
    s3 = boto3.client("s3", endpoint_url=aws, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    s3.create_bucket(Bucket=BUCKET)
    return Settings(
        home=home,
        storage="external",
        s3_endpoint=aws,
        s3_access_key_id="a",
        s3_secret_access_key="b",
        catalog="glue",
        catalog_uri=aws,
        catalog_warehouse=f"s3://{BUCKET}/tables",
        **more,
    )
