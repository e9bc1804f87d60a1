"""`test`: run the tests of SQL, and record one from rows of the lake."""

import time
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.options import Json
from lakehouse.cli.printing import counted, print_json, print_text
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.recorded_tests import record_test
from lakehouse.pipeline.sql_tests import STREAM_TESTS, find_tests
from lakehouse.project import find_project
from lakehouse.settings import Settings, get_settings
from lakehouse.storage.embedded import lifecycle as storage

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH…", help="Files, or folders of them; by default the project's tests/, and streams/*/tests.yaml."
    ),
]

Record = Annotated[str | None, typer.Option("--record", metavar="TABLE", help="Write a test from rows of this table.")]
Where = Annotated[str, typer.Option("--where", metavar="SQL", help="The rows of the table to record.")]
Into = Annotated[
    Path | None, typer.Option("--into", metavar="FILE", help="The file to write; by default tests/TABLE.yaml.")
]


def run_tests(
    paths: Paths = None, record: Record = None, where: Where = "true", into: Into = None, as_json: Json = False
) -> None:
    """Run tests of SQL in memory, or record one. Exit with 1 when a test fails."""
    if record is not None:
        _record(record, where, into)
        return
    started = time.monotonic()
    chosen = paths or _own_paths(get_settings())
    if missing := [path for path in chosen if not path.exists()]:
        raise LakehouseError(f"There is no {', '.join(map(str, missing))}; see docs/models.md for tests.")
    tests = find_tests(Lake(get_settings()), chosen)
    results = []
    for each in tests:
        try:
            difference = each.difference()
        except LakehouseError as error:
            difference = str(error)
        results.append({"test": str(each), "file": str(each.path), "table": each.table, "difference": difference})
    failed = [result for result in results if result["difference"]]
    if as_json:
        print_json({"tests": results, "failed": len(failed)})
    else:
        for result in failed:
            print_text(f"{result['test']} ({result['file']}): {result['table']}\n{result['difference']}")
        seconds = time.monotonic() - started
        passed = counted(len(tests) - len(failed), "test")
        print_text(f"{passed} passed, {len(failed)} failed, in {seconds:.1f} s.")
    if failed or not tests:
        raise SystemExit(1)


def _own_paths(settings: Settings) -> list[Path]:
    """List the project's folder of tests, and the tests beside the SQL of its streams."""
    folder = (find_project() or Path()) / "tests"
    beside = [file for streams in settings.streams for file in sorted(streams.glob(f"*/{STREAM_TESTS}"))]
    return [*([folder] if folder.is_dir() or not beside else []), *beside]


def _record(table: str, where: str, into: Path | None) -> None:
    path = into or (find_project() or Path()) / "tests" / f"{table.replace('.', '_')}.yaml"
    if path.exists():
        raise LakehouseError(f"{path} exists already; name another file with --into.")
    settings = get_settings()
    with storage.running(settings) as connection:
        recorded = record_test(Lake(settings, connection), table, where)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recorded.text, encoding="utf-8")
    given = ", ".join(f"{counted(rows, 'row')} of {name}" for name, rows in recorded.given.items())
    print_text(f"Wrote {path}: from {given}, {counted(recorded.expected, 'row')} of {table}.")
    print_text("It holds data of the lake: look whether it may be shared.")
