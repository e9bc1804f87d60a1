"""Help imports no command, and options are parsed as documented."""

import subprocess
import sys

import pytest
import typer

from lakehouse.cli.options import parse_duration

HEAVY = {"dagster", "duckdb", "pyiceberg", "pyarrow", "litestar", "boto3"}


@pytest.mark.parametrize("arguments", [["--help"], ["down", "--help"]], ids=["lakehouse", "down"])
def test_help_imports_no_heavy_package(arguments: list[str]) -> None:
    program = f"""import sys
from lakehouse.cli.app import app
app({arguments!r}, standalone_mode=False)
print(*({HEAVY!r} & sys.modules.keys()))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_unknown_command_is_refused_with_a_suggestion() -> None:
    done = subprocess.run([sys.executable, "-m", "lakehouse", "loadd"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "No such command 'loadd'. Did you mean 'load'?" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30.0), ("5m", 300.0), ("500ms", 0.5), ("1.5h", 5400.0), ("1d", 86400.0), ("infinite", None)],
)
def test_duration_is_parsed_into_seconds(text: str, expected: float | None) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "-5s", "0s", "5 weeks", "5sm", "nan s", "nans", "infs"])
def test_invalid_duration_raises(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration; write one such as 30s, 5m, 2h or infinite"):
        parse_duration(text)
