"""`export`: the lake as a file for other tools."""

from collections.abc import Sequence
from pathlib import Path

from lakehouse.cli.printing import notes, print_json, print_table, progress
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.export import export_duckdb, select_tables
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server


def export_file(path: Path, tables: Sequence[str], *, as_json: bool) -> None:
    """Copy tables into a DuckDB file. Raises LakehouseError."""
    settings = get_settings()
    with server.running(settings) as connection, progress() as bars:
        lake = Lake(settings, connection, metadata_only=True)
        names = select_tables(lake, tables)
        task = bars.add_task("Copying tables", total=len(names))
        copied = []
        for one in export_duckdb(lake, names, path):
            copied.append(one)
            bars.advance(task)
    if as_json:
        tables_json = {one.name: one.rows for one in copied}
        print_json({"file": str(path), "bytes": path.stat().st_size, "tables": tables_json})
        return
    print_table("", ["table", "rows"], [[one.name, one.rows] for one in copied], right=["rows"])
    notes.print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB; `duckdb {path}` opens it.")
