"""Reading a table's metadata without Arrow, whose file system takes a second to import."""

import io
from typing import NoReturn
from urllib.parse import urlparse

from pyiceberg.io import FileIO, InputFile, InputStream

from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects, object_key


class MetadataFileIO(FileIO):
    """Read-only access to manifests and manifest lists."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._objects: dict[str, Objects] = {}

    def new_input(self, location: str) -> InputFile:
        """Return the file at this URL; opening it raises what `Objects.get` raises."""
        bucket = urlparse(location).netloc
        if bucket not in self._objects:
            self._objects[bucket] = Objects.from_url(self._connection, location)
        return _ObjectInputFile(location, self._objects[bucket], object_key(location))

    def new_output(self, location: str) -> NoReturn:
        """Raise UnsupportedOperation."""
        raise io.UnsupportedOperation(f"Can't write {location}: this table was opened for reading its metadata.")

    def delete(self, location: object) -> NoReturn:
        """Raise UnsupportedOperation."""
        raise io.UnsupportedOperation(f"Can't delete {location}: this table was opened for reading its metadata.")


class _ObjectInputFile(InputFile):
    """A small object, read in one request."""

    def __init__(self, location: str, objects: Objects, key: str) -> None:
        super().__init__(location)
        self._objects, self._key = objects, key

    def __len__(self) -> int:
        info = self._objects.head(self._key)
        return 0 if info is None else info.size

    def exists(self) -> bool:
        """Return whether the object exists."""
        return self._objects.head(self._key) is not None

    def open(self, seekable: bool = True) -> InputStream:
        """Read the object."""
        return io.BytesIO(self._objects.get(self._key))
