"""Messages of jobs elsewhere, in a folder of the lake's bucket that is emptied when a job has ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster_aws.pipes import PipesS3MessageReader

from lakehouse.storage.objects.store import Objects

POLL_SECONDS = 2.0


class LakeMessageReader(PipesS3MessageReader):
    """Read messages below a folder. Dagster's own reader leaves them for ever, each job's at the root of the bucket."""

    def __init__(self, objects: Objects, client: Any, folder: str) -> None:
        """Read with a boto3 client, because Dagster does, below a folder of this job alone."""
        super().__init__(bucket=objects.bucket, client=client, include_stdio_in_messages=True, interval=POLL_SECONDS)
        self._objects, self._folder = objects, folder

    @contextmanager
    def get_params(self) -> Iterator[dict[str, Any]]:
        """Give what the job needs to write messages, and delete them afterwards."""
        with super().get_params() as params:
            try:
                yield {**params, "key_prefix": self._folder}
            finally:
                self._objects.delete([info.key for info in self._objects.list(f"{self._folder}/")])
