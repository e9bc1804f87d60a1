"""`spark-archive`: what Spark's workers need, as one file."""

from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import print_json, print_text
from lakehouse.engine.worker_archive import write_archive
from lakehouse.errors import LakehouseError

File = Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="The archive to write or replace.")]


def spark_archive(file: File, as_json: Json = False) -> None:
    """Pack this package and what Spark's workers import. Raises LakehouseError if the file can't be written."""
    try:
        archive = write_archive(file)
    except OSError as error:
        raise LakehouseError(f"Can't write {file}: {error.strerror or error}.") from error
    if as_json:
        print_json(
            {"file": str(file), "bytes": file.stat().st_size, "unpacked": archive.bytes, "versions": archive.versions}
        )
        return
    print_text(
        f"{file}: {file.stat().st_size >> 20} MiB, {archive.bytes >> 20} MiB unpacked, {len(archive.versions)} packages."
        " See docs/spark.md for how Spark is given it."
    )
