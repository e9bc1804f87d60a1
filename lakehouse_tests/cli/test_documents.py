"""What a user can set or type is written down."""

import re
from pathlib import Path

import pytest
import typer

from lakehouse.cli.app import app
from lakehouse.cli.durations import seconds
from lakehouse.settings import Settings

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORDS = "\n".join(file.read_text() for file in FILES)


def _commands() -> list[str]:
    group = typer.main.get_command(app)
    found: list[str] = []
    for name, command in sorted(getattr(group, "commands", {}).items()):
        inner = getattr(command, "commands", None)
        found += [f"{name} {one}" for one in sorted(inner)] if inner else [name]
    return found


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_every_setting_is_documented(setting: str) -> None:
    assert f"LAKEHOUSE_{setting.upper()}`" in WORDS


def test_every_setting_that_is_documented_exists() -> None:
    said = set(re.findall(r"(?<!_)LAKEHOUSE_([A-Z0-9_]+)\b", WORDS))
    assert {name.lower() for name in said} <= set(Settings.model_fields)


def _documented() -> set[str]:
    """The commands in the first column of the README's table; `keys create|list` stands for both."""
    cells = re.findall(r"^\| (`lakehouse .*?) \| ", (ROOT / "README.md").read_text(), re.MULTILINE)
    texts = [text.removeprefix("lakehouse ") for cell in cells for text in re.findall("`(.*?)`", cell)]
    found: set[str] = set()
    for text in texts:
        name, *rest = text.split()
        inner = rest[0].split(r"\|") if rest and r"\|" in rest[0] and not rest[0].startswith("[") else []
        found |= {f"{name} {one}" for one in inner} or {name}
    return found


def test_the_commands_that_are_documented_are_those_there_are() -> None:
    assert _documented() == set(_commands())


def test_documents_link_to_what_exists() -> None:
    missing = [
        (file.name, target)
        for file in FILES
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", file.read_text())
        if not (file.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30.0), ("5m", 300.0), ("500ms", 0.5), ("1.5h", 5400.0), ("1d", 86400.0), ("infinite", None)],
)
def test_a_duration_is_read(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "-5s", "0s", "5 weeks", "5sm", "nan s", "nans", "infs"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration; write one such as 30s, 5m, 2h or infinite"):
        seconds(text)
