"""What assets are given: the lake, opened once a process, and a client of its S3."""

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
    """What the queue of LAKEHOUSE_QUEUE_URL tells of; its messages are held by this process."""
    settings = get_settings()
    url, dead = settings.queue_url or "", settings.queue_dead_letter_url
    return Arrivals(_lake(), Inbox(aws_client(settings, "sqs", region=queue_region(url)), url, dead))


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its parameter is of use to subclasses only
    """The lake that the settings name; it is opened at its first use and shared by all runs of a process."""

    @property
    def lake(self) -> Lake:
        """The lake. Raises StorageUnavailableError when its storage is not up."""
        return _lake()


class LakeS3Resource(dg.ConfigurableResource):  # type: ignore[type-arg]  # as above
    """The lake's S3 for an asset's own objects, with endpoint and credentials as the lake has them."""

    def get_client(self) -> Any:
        """A boto3 client. Raises StorageUnavailableError when the storage is not up."""
        found = _lake().connection
        return S3Resource(
            endpoint_url=found.endpoint,
            region_name=found.region,
            aws_access_key_id=found.access_key_id,
            aws_secret_access_key=found.secret_access_key,
        ).get_client()
