"""Read the files of an Iceberg table whose folder was copied: its metadata names them by where they were."""

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO


class CopiedTableIO(PyArrowFileIO):
    """Access to files below `copied.from`, its former location, in the folder `copied.to`."""

    def new_input(self, location: str) -> PyArrowFile:
        """Return the file, in the copy if it is one of the table's."""
        before = self.properties["copied.from"].rstrip("/") + "/"
        if location.startswith(before):
            location = f"{self.properties['copied.to']}/{location.removeprefix(before)}"
        return super().new_input(location)
