"""Clients of the AWS services that events come from. What is asked of them belongs to the sources."""

import re
from typing import Any

from lakehouse.settings import Settings

TRANSIENT = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
    }
)
"""Error codes that go away by themselves."""


def aws_client(settings: Settings, service: str, *, region: str | None = None, connections: int = 10) -> Any:
    """A boto3 client that leaves trying again to its caller.

    It logs in as S3 does when that is AWS's own, else by the AWS credential chain. `AWS_ENDPOINT_URL_KINESIS`,
    `AWS_ENDPOINT_URL_SQS` and the like in the environment lead it elsewhere, as they do every AWS client.
    """
    import boto3  # a third of a second, and only for who uses these sources
    from botocore.config import Config

    secret = settings.s3_secret_access_key
    own = settings.storage == "external" and settings.s3_endpoint is None and settings.s3_access_key_id and secret
    return boto3.client(
        service,  # type: ignore[call-overload]  # its name is known at run time only
        region_name=region or settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id if own else None,
        aws_secret_access_key=secret.get_secret_value() if own and secret else None,
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=connections,
        ),
    )


def region_of(arn: str) -> str | None:
    """The region that an ARN names; None of a plain name."""
    parts = arn.split(":")
    return parts[3] or None if len(parts) >= 6 and parts[0] == "arn" else None


def queue_region(url: str) -> str | None:
    """The region that the URL of an SQS queue names; None of another server's."""
    found = re.match(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.", url)
    return found[1] if found else None
