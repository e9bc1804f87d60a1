"""Clients and errors of the AWS services that events come from. What they are asked is up to each source."""

import re
from typing import Any

from botocore.exceptions import ClientError

from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import external_connection

TRANSIENT_ERROR_CODES = frozenset(
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
"""Errors that pass by themselves."""


def aws_client(settings: Settings, service: str, *, region: str | None = None, connections: int = 10) -> Any:
    """Make a boto3 client that leaves retries to its caller.

    It uses the S3 credentials if S3 is AWS's own, else the AWS credential chain. Environment variables such as
    `AWS_ENDPOINT_URL_KINESIS` and `AWS_ENDPOINT_URL_SQS` redirect it, as they do every AWS client.
    """
    import boto3  # takes a third of a second, and only these sources need it
    from botocore.config import Config

    return boto3.client(
        service,  # type: ignore[call-overload]  # its name is known at run time only
        region_name=region or settings.s3_region,
        **aws_keys(settings),
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=connections,
        ),
    )


def aws_keys(settings: Settings) -> dict[str, Any]:
    """Return boto3's arguments with the S3 keys if S3 is AWS's own; without any, the credential chain is used."""
    if settings.storage != "external" or settings.s3_endpoint is not None:
        return {}
    connection = external_connection(settings)
    return {
        "aws_access_key_id": connection.access_key_id,
        "aws_secret_access_key": connection.secret_access_key,
        "aws_session_token": connection.session_token,
    }


def error_code(error: Exception) -> str:
    """Return the code of an error that AWS answered with; empty for any other error."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def arn_region(arn: str) -> str | None:
    """Return the region that an ARN names; None for a plain name."""
    parts = arn.split(":")
    return parts[3] or None if len(parts) >= 6 and parts[0] == "arn" else None


def queue_region(url: str) -> str | None:
    """Return the region that the URL of an SQS queue names; None for another server's URL."""
    match = re.match(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.", url)
    return match[1] if match else None
