"""The resources of the graph: the lake, opened once a process, and a client of its S3."""

from functools import lru_cache
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource

from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.sqs_arrivals import Arrivals
from lakehouse.settings import get_settings
from lakehouse.sources.aws import aws_client, queue_region
from lakehouse.sources.sqs.inbox import Inbox


@lru_cache(maxsize=1)
def _lake() -> Lake:
    return Lake(get_settings())


@lru_cache(maxsize=1)
def arrivals() -> Arrivals:
    """Open the queue of LAKEHOUSE_QUEUE_URL, once a process, because its unprocessed messages are held in memory."""
    settings = get_settings()
    url, dead = settings.queue_url or "", settings.queue_dead_letter_url
    return Arrivals(_lake(), Inbox(aws_client(settings, "sqs", region=queue_region(url)), url, dead))


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # only a resource that builds another object needs its parameter
    """The lake of the settings. It is opened at its first use and shared by all runs of a process."""

    @property
    def lake(self) -> Lake:
        """The lake. Raises StorageUnavailableError if its storage is not running."""
        return _lake()


class LakeS3Resource(dg.ConfigurableResource):  # type: ignore[type-arg]  # as above
    """The lake's S3, where an asset may store objects of its own; it holds the endpoint and credentials."""

    def get_client(self) -> Any:
        """Make a boto3 client. Raises StorageUnavailableError if the storage is not running."""
        connection = _lake().connection
        return S3Resource(
            endpoint_url=connection.endpoint,
            region_name=connection.region,
            aws_access_key_id=connection.access_key_id,
            aws_secret_access_key=connection.secret_access_key,
            aws_session_token=connection.session_token,
        ).get_client()
