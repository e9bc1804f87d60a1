"""The small files that tables are made of, manifests and their lists, read whole and with patience.

Arrow's S3 client asks for six seconds; a server that starts again may take longer.
"""

import pyarrow as pa
from pyiceberg.io import InputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from lakehouse.errors import StorageUnavailableError
from lakehouse.storage.iceberg.errors import said

SMALL = (".avro", ".json")
RETRY_SECONDS = 15.0


class PatientFileIO(PyArrowFileIO):
    """pyiceberg's files on Arrow, whose small ones are read with patience."""

    def new_input(self, location: str) -> PyArrowFile:
        """The file there. Opening a small one raises StorageUnavailableError when storage gives no proper answer."""
        found = super().new_input(location)
        if not location.endswith(SMALL):
            return found
        return _Small(location, found._path, found._filesystem, found._buffer_size)


class _Small(PyArrowFile):
    def open(self, seekable: bool = True) -> InputStream:
        asked = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_delay(RETRY_SECONDS),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            reraise=True,
        )
        try:
            return pa.BufferReader(asked(self._whole))
        except OSError as problem:
            if not _may_pass(problem):
                raise
            raise StorageUnavailableError(
                f"Storage does not answer as it should when asked for {self.location}; run it again ({said(problem)})."
            ) from problem

    def _whole(self) -> bytes:
        with super().open() as file:
            return file.read()


def _may_pass(problem: BaseException) -> bool:
    return isinstance(problem, OSError) and not isinstance(problem, FileNotFoundError | PermissionError)
