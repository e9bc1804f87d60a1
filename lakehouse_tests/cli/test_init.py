"""`init` makes a project in which a user's own file is a table some commands later."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.automation.build import build_definitions
from lakehouse.automation.project_assets import problems_of
from lakehouse.contracts.streams import discover
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import Settings
from lakehouse_tests.cli.conftest import Done
from lakehouse_tests.forked import run_forked
from lakehouse_tests.nightly import NIGHTLY

ROOT = Path(__file__).parents[2]
FILES = {
    "rides.csv": "Ride;Start;City;Fare\n"
    + "".join(f"{n};2{n % 8}.11.2025 08:{n}:00;Köln;1{n},50\n" for n in range(10, 40)),
    "readings.ndjson": "".join(
        json.dumps({"id": f"r-{n}", "at": f"2025-11-20T10:{n}:00Z", "sensor": f"s{n % 3}", "celsius": n / 4}) + "\n"
        for n in range(10, 40)
    ),
    "members.csv": "member_no,joined,plan\n" + "".join(f"M{n:04},2025-11-{n},free\n" for n in range(10, 30)),
}
"""Files of which the package has no contract, and how many rows each has."""

Lakehouse = Callable[..., Done]


def _lakehouse(folder: Path, home: Path | None = None) -> Lakehouse:
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    variables = {**mine, "COLUMNS": "300"} | ({"LAKEHOUSE_HOME": str(home)} if home else {})

    def lakehouse(*words: str) -> Done:
        return run_forked(words, variables, folder)

    return lakehouse


def _walk(lakehouse: Lakehouse, file: Path) -> None:
    """Make a stream of a file, load the file, and query the stream's gold table."""
    name, rows = file.stem, len(FILES[file.name].splitlines()) - file.name.endswith(".csv")
    for words in (["streams", "new", name, "--from", str(file), "--yes"], ["load", name, str(file)]):
        done = lakehouse(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    done = lakehouse("query", f"select sum(events)::bigint as n from gold.{name}_daily", "--format", "json")
    assert json.loads(done.stdout) == [{"n": rows}], done.stderr


def test_file_of_a_new_project_becomes_a_table(home: Path, tmp_path: Path) -> None:
    assert _lakehouse(tmp_path)("init", "mine").returncode == 0
    below = tmp_path / "mine" / "notes"
    below.mkdir()
    file = below / "rides.csv"
    file.write_text(FILES[file.name])
    _walk(_lakehouse(below, home), file)


def test_new_project_without_a_stream_loads(tmp_path: Path) -> None:
    _lakehouse(tmp_path)("init", "mine")
    definitions = build_definitions(Settings(examples=False, assets=(tmp_path / "mine" / "assets",)))
    dg.Definitions.validate_loadable(definitions)
    assert problems_of(definitions) == []
    assert dg.AssetKey(["gold", "busy_days"]) in definitions.resolve_asset_graph().get_all_asset_keys()
    queries = read_queries([tmp_path / "mine" / "queries"], examples=False)
    assert queries.keys() == {"daily_metrics", "events_by_day", "stream_health"}


@pytest.mark.parametrize(
    ("example", "streams", "queries"),
    [
        pytest.param("retail", {"retail"}, {"customer_segments", "revenue_by_hour"}, id="one"),
        pytest.param("all", set(discover()), set(read_queries()) - {"daily_metrics", "stream_health"}, id="all"),
    ],
)
def test_example_is_copied_with_its_queries(tmp_path: Path, example: str, streams: set[str], queries: set[str]) -> None:
    done = _lakehouse(tmp_path)("init", "mine", "--example", example)
    assert done.returncode == 0, done.stderr
    assert discover([tmp_path / "mine" / "streams"], examples=False).keys() == streams
    assert {path.stem for path in (tmp_path / "mine" / "queries").glob("*.sql")} == queries | {"events_by_day"}


def test_files_that_were_there_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine\n")
    done = _lakehouse(tmp_path)("init", ".")
    assert done.returncode == 0
    assert "Left alone, because it was there before: README.md" in done.stdout
    assert (tmp_path / "README.md").read_text() == "mine\n"
    again = _lakehouse(tmp_path)("init", ".")
    assert (again.returncode, "is a project" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["mine", "--example", "retial"], "There is no example retial; there are clickstream, ", id="example"
        ),
        pytest.param(["taken/mine"], "Can't write ", id="a file in the way"),
    ],
)
def test_init_that_is_refused_makes_nothing(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "taken").write_text("")
    done = _lakehouse(tmp_path)("init", *words)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.skipif(not NIGHTLY or shutil.which("uv") is None, reason="installs everything; NIGHTLY=1 runs it, with uv")
def test_five_minutes_in_a_new_environment(tmp_path: Path) -> None:
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LAKEHOUSE_", "DAGSTER_", "PYTHON", "VIRTUAL_ENV"))
    }
    mine |= {"PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "LAKEHOUSE_HTTP_PORT": "18492"}

    def run(*words: str, folder: Path = tmp_path / "mine") -> str:
        return subprocess.run(words, cwd=folder, env=mine, check=True, capture_output=True, text=True).stdout

    run("uv", "venv", "-q", "--python", sys.executable, "venv", folder=tmp_path)
    run("uv", "pip", "install", "-q", "-p", "venv", str(ROOT), "pytest>=9,<10", folder=tmp_path)
    run("lakehouse", "init", "mine", folder=tmp_path)
    run("lakehouse", "up", "--detach")
    try:
        for name, text in FILES.items():
            (tmp_path / name).write_text(text)
            stream, file = name.partition(".")[0], f"../{name}"
            run("lakehouse", "streams", "new", stream, "--from", file, "--yes")
            run("lakehouse", "load", stream, file)
            assert run("lakehouse", "query", f"select * from gold.{stream}_daily", "--format", "csv").count("\n") > 1
        run("dagster", "definitions", "validate")
        run("python", "-m", "pytest", "-q")
    finally:
        run("lakehouse", "down")
