"""A home has one supervisor. It tolerates optional programs that fail, and imports no code of the current folder."""

import ast
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._cli.api import grpc_command

import lakehouse
from lakehouse.errors import LakehouseError
from lakehouse.processes.child import python_command, spawn
from lakehouse.runtime import supervisor
from lakehouse.runtime.code_server import serving_words
from lakehouse.runtime.supervisor import Program, State, Supervisor, claim
from lakehouse.settings import Settings

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
CLAIM = """
import sys, time
from lakehouse.runtime.supervisor import claim
from lakehouse.settings import Settings
with claim(Settings(home=sys.argv[1])):
    print("claimed", flush=True)
    time.sleep(60)
"""


def test_second_supervisor_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with subprocess.Popen([sys.executable, "-c", CLAIM, str(settings.root)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"claimed\n"
        with pytest.raises(LakehouseError, match="starting or stopping"), claim(settings):
            pass
        first.kill()
    with claim(settings):
        pass
    with claim(settings):
        pass


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _run(settings: Settings, programs: list[Program]) -> dict[str, bool]:
    """Run these programs until all are ready. Return which of them run at that moment."""
    running: dict[str, bool] = {}

    def stop(state: State) -> None:
        running.update({child.name: child.process is not None for child in state.children})
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()

    Supervisor(settings, programs, stop).run()
    return running


@pytest.mark.usefixtures("_signals")
def test_optional_program_that_does_not_start_stops_no_other(tmp_path: Path) -> None:
    programs = [Program("http", SLEEP), Program("page", ["false"], is_ready=lambda: False, optional=True)]
    assert _run(Settings(home=tmp_path), programs) == {"http": True, "page": False}


@pytest.mark.usefixtures("_signals")
def test_required_program_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakehouseError, match="page did not start"):
        _run(Settings(home=tmp_path), [Program("page", ["false"], is_ready=lambda: False)])


def test_page_is_the_only_optional_program(tmp_path: Path) -> None:
    programs = supervisor.dagster_programs(Settings(home=tmp_path), "lakehouse.definitions", page=True)
    assert [program.name for program in programs if program.optional] == ["page"]


GRANDCHILD = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'json.tool', '--help'], check=True)"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(python_command("json.tool", "--help"), id="child"),
        pytest.param([sys.executable, "-m", "json.tool", "--help"], id="child by its environment"),
        pytest.param([sys.executable, "-c", GRANDCHILD], id="grandchild"),
        pytest.param([sys.executable, "-m", "lakehouse", "--help"], id="lakehouse"),
        pytest.param(python_command("lakehouse", "--help"), id="lakehouse with -P"),
    ],
)
def test_no_child_imports_from_the_current_folder(tmp_path: Path, command: list[str]) -> None:
    for name in ("json", "argparse", "typer", "yaml", "gql"):
        (tmp_path / f"{name}.py").write_text(f"open('imported-{name}', 'w')\nraise SystemExit(3)\n")
    child = spawn(command, tmp_path / "log", env=os.environ, cwd=tmp_path)
    assert child.wait(60) == 0, (tmp_path / "log").read_text()
    assert [*tmp_path.glob("imported-*")] == []


def test_python_m_lakehouse_does_not_import_from_the_current_folder(tmp_path: Path) -> None:
    for name in ("typer", "yaml", "filelock", "rich"):
        (tmp_path / f"{name}.py").write_text(f"open('imported-{name}', 'w')\nraise SystemExit(3)\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "lakehouse", "--help"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert [*tmp_path.glob("imported-*")] == []


def test_runs_of_dagsters_code_server_do_not_import_from_the_current_folder() -> None:
    parsed = grpc_command.make_context("grpc", serving_words("lakehouse.definitions", 1))
    assert parsed.params["empty_working_directory"] is True


def test_every_python_command_has_the_safe_path() -> None:
    unsafe = []
    for path in Path(lakehouse.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List):
                words = [ast.unparse(word) for word in node.elts[:2]]
                if words[:1] == ["sys.executable"] and words[1:] != ["'-P'"]:
                    unsafe.append(f"{path}:{node.lineno}")
    assert unsafe == []
