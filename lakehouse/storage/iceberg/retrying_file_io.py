"""A FileIO that retries reading manifests and metadata, because Arrow's S3 client gives up after six seconds."""

import pyarrow as pa
from pyiceberg.io import InputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from tenacity import retry_if_exception

from lakehouse.aws import explain
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.storage.objects.errors import first_line, is_server_error, unreadable_object
from lakehouse.storage.retry import retrying

METADATA_SUFFIXES = (".avro", ".json")


class RetryingFileIO(PyArrowFileIO):
    """pyiceberg's FileIO on Arrow, with retries for metadata files."""

    def new_input(self, location: str) -> PyArrowFile:
        """Return the file at this URL. Opening a metadata file raises what `Objects.get` raises."""
        file = super().new_input(location)
        if not location.endswith(METADATA_SUFFIXES):
            return file
        return _MetadataFile(location, file._path, file._filesystem, file._buffer_size)


class _MetadataFile(PyArrowFile):
    """A small file, read whole in each attempt."""

    def open(self, seekable: bool = True) -> InputStream:
        try:
            return pa.BufferReader(retrying(retry_if_exception(_is_transient))(self._read))
        except OSError as error:
            if advice := explain(error, "s3:GetObject"):
                raise LakehouseError(f"Can't read {self.location}: {advice}") from error
            if not _is_transient(error):
                raise
            if is_server_error(str(error)):
                raise unreadable_object(f"Can't read {self.location}", first_line(error)) from error
            raise StorageUnavailableError(
                f"Storage does not answer as it should when asked for {self.location}; run it again ({first_line(error)})."
            ) from error

    def _read(self) -> bytes:
        with super().open() as file:
            return file.read()


def _is_transient(error: BaseException) -> bool:
    is_lasting = isinstance(error, FileNotFoundError | PermissionError) or explain(error) is not None
    return isinstance(error, OSError) and not is_lasting
