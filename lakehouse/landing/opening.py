"""Open what no reader reads into a folder of files that one does, before it lands.

Zip and tar archives are unpacked. A workbook becomes a CSV file for each sheet, an Avro file NDJSON, and an ORC file or a table
Parquet. See `selection` for what is opened and `table_folders` for tables.
"""

import csv
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import UnreadableSourceError
from lakehouse.landing.readers import json_text
from lakehouse.landing.readers.content import decompressed_chunks, local_object
from lakehouse.landing.readers.parquet_values import python_json
from lakehouse.landing.table_folders import delta_batches, iceberg_batches

_ZIP_END, _ZIP_END_BYTES = b"PK\x05\x06", 22
"""The record at the end of a zip archive, and its size without the comment, whose length is in its last two bytes."""

_ORC_MAGIC = b"ORC"

Opener = Callable[[Path, Path], None]
"""Opens a file or folder into an empty folder. Raises any error if it can't."""


def open_into(opener: Opener, path: Path, folder: Path) -> None:
    """Open a file or folder into a new folder. Raises UnreadableSourceError, which says why not and what to do."""
    folder.mkdir(parents=True)
    try:
        opener(_decompressed(path, folder) if path.is_file() else path, folder)
    except ImportError as error:
        shutil.rmtree(folder)
        raise UnreadableSourceError(
            f"it is read with {error.name}, which is not installed. Run: pip install 'lakehouse[formats]'"
        ) from error
    except Exception as error:  # each library has errors of its own, and a damaged file must not stop the others
        shutil.rmtree(folder)
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:300]
        raise UnreadableSourceError(f"it can't be opened ({reason})") from error


def _decompressed(path: Path, folder: Path) -> Path:
    plain = folder.with_name(f"{folder.name}.content")
    with plain.open("wb") as file:
        file.writelines(decompressed_chunks(local_object(path)))
    return plain


def unpack_zip(archive: Path, folder: Path) -> None:
    """Unpack a zip archive whole. Raises ValueError if a file would be outside the folder or over another one."""
    with zipfile.ZipFile(archive) as content:
        members = content.infolist()
        _check_place(archive, content)
        _check_members(folder, [member.filename for member in members], sum(member.file_size for member in members))
        content.extractall(folder)  # noqa: S202  # the names are checked


def _check_place(archive: Path, content: zipfile.ZipFile) -> None:
    """Raise ValueError if anything but blanks stands before or after a zip archive, because it would not be read."""
    if min((member.header_offset for member in content.infolist()), default=content.start_dir):
        raise ValueError("something stands before it, as if two archives were joined")
    with archive.open("rb") as file:
        file.seek(content.start_dir)
        directory = file.read()
    end = directory.rfind(_ZIP_END)
    comment_bytes = int.from_bytes(directory[end + _ZIP_END_BYTES - 2 : end + _ZIP_END_BYTES], "little")
    if directory[end + _ZIP_END_BYTES + comment_bytes :].strip(b"\0 \t\r\n"):
        raise ValueError("something follows its end")


def unpack_tar(archive: Path, folder: Path) -> None:
    """Unpack a tar archive whole. Raises as `unpack_zip` does, and tarfile.TarError for links outside and devices."""
    with tarfile.open(archive, "r:") as content:
        files = [member for member in content.getmembers() if not member.isdir()]
        _check_members(folder, [member.name for member in files], sum(member.size for member in files))
        _check_end(archive, content.offset)
        content.extractall(folder, filter="data")


def _check_end(archive: Path, end: int) -> None:
    """Raise ValueError unless the archive ends as it should, because tarfile passes over what is cut off or follows."""
    with archive.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError("its end is missing")
        while chunk := file.read(tarfile.RECORDSIZE):
            if chunk.strip(b"\0"):
                raise ValueError("something follows its end")


def _check_members(folder: Path, members: Sequence[str], size: int) -> None:
    names = [PurePosixPath(member) for member in members]
    if odd := next((name for name in names if name.is_absolute() or ".." in name.parts), None):
        raise ValueError(f"it has a name outside of it, {odd}")
    if len(set(names)) < len(names):
        raise ValueError("two files in it have the same name")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(f"it holds {size:,} bytes, for which {folder} has no room: {free:,} bytes are free")


def open_workbook(workbook: Path, folder: Path) -> None:
    """Write each sheet of a workbook as CSV: times as ISO 8601, whole numbers without a point. Empty sheets are left out."""
    from python_calamine import SheetTypeEnum, load_workbook

    if zipfile.is_zipfile(workbook):
        with zipfile.ZipFile(workbook) as content:
            _check_place(workbook, content)
    with closing(load_workbook(workbook)) as sheets:
        names = [sheet.name for sheet in sheets.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
        for number, name in enumerate(names, 1):
            if rows := sheets.get_sheet_by_name(name).to_python():
                with (folder / f"{number}-{name.replace('/', '_')}.csv").open(
                    "w", encoding="utf-8", newline=""
                ) as file:
                    csv.writer(file).writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, timedelta):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def open_avro(file: Path, folder: Path) -> None:
    """Write the records of an Avro file as NDJSON."""
    import fastavro

    with file.open("rb") as content, (folder / "records.ndjson").open("w", encoding="utf-8") as lines:
        for record in fastavro.reader(content):
            lines.write(json_text.dump(python_json(record)) + "\n")


def open_orc(file: Path, folder: Path) -> None:
    """Write the rows of an ORC file as Parquet. Raises ValueError if another one stands before it."""
    from pyarrow.orc import ORCFile

    orc = ORCFile(file)
    # Its sizes are those of the last of several files. Whether its content counts the magic bytes depends on the writer.
    tail = orc.stripe_statistics_length + orc.file_footer_length + orc.file_postscript_length + 1
    start = file.stat().st_size - tail - orc.content_length
    if any(_is_at(file, _ORC_MAGIC, place) for place in (start, start - len(_ORC_MAGIC)) if place > 0):
        raise ValueError("it is several ORC files, one behind the other")
    stripes = (orc.read_stripe(number) for number in range(orc.nstripes))
    _write_parquet(orc.schema, stripes, folder / "rows.parquet")


def _is_at(file: Path, magic: bytes, place: int) -> bool:
    with file.open("rb") as content:
        content.seek(place)
        return content.read(len(magic)) == magic


def open_delta(table: Path, folder: Path) -> None:
    """Write the rows of a Delta table at its current version as Parquet."""
    _write_parquet(*delta_batches(table), _file_of_table(table, folder))


def open_iceberg(table: Path, folder: Path) -> None:
    """Write the rows of an Iceberg table at its current snapshot as Parquet."""
    _write_parquet(*iceberg_batches(table), _file_of_table(table, folder))


def _file_of_table(table: Path, folder: Path) -> Path:
    return folder / f"{table.absolute().name.lstrip('._') or 'table'}.parquet"


def _write_parquet(schema: pa.Schema, batches: Iterable[Any], file: Path) -> None:
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
