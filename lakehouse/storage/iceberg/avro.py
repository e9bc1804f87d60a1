"""Reading manifest lists and manifests, with one reader for all files of a schema.

pyiceberg 0.12 makes a reader for each file, which takes longer than reading a small file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import META_SCHEMA, AvroFile, AvroFileHeader
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.io import FileIO, InputFile
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
    _inherit_from_manifest,
)
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

CACHED_READERS = 256
"""A table has one for each partition spec and format version that its manifests were written with."""


@dataclass(frozen=True, eq=False)
class _Kind:
    """The schema that a kind of file is read by, and the classes of its structs and enums by their field ids."""

    schema: Schema
    types: Mapping[int, Any]
    enums: Mapping[int, Any]


_LIST = _Kind(
    MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION],
    {-1: ManifestFile, 508: PartitionFieldSummary},
    {517: ManifestContent},
)
_MANIFEST = _Kind(
    MANIFEST_ENTRY_SCHEMAS[DEFAULT_READ_VERSION],
    {-1: ManifestEntry, 2: DataFile},
    {0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
)
_HEADER = construct_reader(META_SCHEMA, {-1: AvroFileHeader})


def read_manifest_list(files: FileIO, snapshot: Snapshot) -> list[ManifestFile]:
    """Read the manifests of a snapshot, of data files and of deletes."""
    with _AvroFile(files.new_input(snapshot.manifest_list), _LIST) as file:
        return list(file)


def read_manifest(files: FileIO, manifest: ManifestFile, *, deleted: bool = False) -> list[ManifestEntry]:
    """Read the entries of a manifest, with those of deleted files if `deleted`."""
    with _AvroFile(files.new_input(manifest.manifest_path), _MANIFEST) as file:
        return [
            _inherit_from_manifest(entry, manifest)
            for entry in file
            if deleted or entry.status != ManifestEntryStatus.DELETED
        ]


class _AvroFile(AvroFile[Any]):
    def __init__(self, file: InputFile, kind: _Kind) -> None:
        super().__init__(file)
        self._kind = kind

    def __enter__(self) -> Self:
        with self.input_file.open() as file:
            self.decoder = new_decoder(file.read())
        self.header = _HEADER.read(self.decoder)
        self.reader = _reader(self.header.meta["avro.schema"], self._kind)
        return self


@lru_cache(maxsize=CACHED_READERS)
def _reader(schema: str, kind: _Kind) -> Reader:
    written = AvroSchemaConversion().avro_to_iceberg(json.loads(schema))
    return resolve_reader(written, kind.schema, dict(kind.types), dict(kind.enums))
