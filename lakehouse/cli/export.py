"""`export`: the lake as a DuckDB file for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import print_json, print_table, progress, stderr
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.export import export_duckdb, select_tables
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

File = Annotated[Path, typer.Option("--duckdb", metavar="FILE", help="The DuckDB file to write or replace.")]
Tables = Annotated[
    list[str] | None,
    typer.Argument(help="Tables such as gold.iot_daily or 'gold.*'; all but bronze and realtime when you name none."),
]


def export(duckdb: File, tables: Tables = None, as_json: Json = False) -> None:
    """Copy tables into a DuckDB file. Raises LakehouseError if a table is unknown or the file is of another kind."""
    settings = get_settings()
    with storage.running(settings) as connection, progress() as bars:
        lake = Lake(settings, connection, metadata_only=True)
        names = select_tables(lake, tables or [])
        task = bars.add_task("Copying tables", total=len(names))
        copies = []
        for copy in export_duckdb(lake, names, duckdb):
            copies.append(copy)
            bars.advance(task)
    size = duckdb.stat().st_size
    if as_json:
        print_json({"file": str(duckdb), "bytes": size, "tables": {copy.name: copy.rows for copy in copies}})
        return
    print_table("", ["table", "rows"], [[copy.name, copy.rows] for copy in copies], right=["rows"])
    stderr.print(f"{duckdb}: {size / 1e6:,.1f} MB. Open it with `duckdb {duckdb}`.")
