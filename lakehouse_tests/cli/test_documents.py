"""Every setting, command and link of the documents exists, and every setting and command is documented."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup

from lakehouse.cli.app import COMMANDS
from lakehouse.settings import Settings

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(file.read_text() for file in FILES)


def _commands() -> set[str]:
    names: set[str] = set()
    for lazy in COMMANDS:
        command = lazy.load()
        inner = list(command.commands) if isinstance(command, TyperGroup) else []
        names |= {f"{command.name} {name}" for name in inner} or {str(command.name)}
    return names


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_every_setting_is_documented(setting: str) -> None:
    assert f"LAKEHOUSE_{setting.upper()}`" in TEXT


def test_every_documented_setting_exists() -> None:
    documented = set(re.findall(r"(?<!_)LAKEHOUSE_([A-Z0-9_]+)\b", TEXT))
    assert {name.lower() for name in documented} <= set(Settings.model_fields)


def _documented() -> set[str]:
    """List the commands in the first column of the README's table; `keys create|list` stands for both."""
    cells = re.findall(r"^\| (`lakehouse .*?) \| ", (ROOT / "README.md").read_text(), re.MULTILINE)
    texts = [text.removeprefix("lakehouse ") for cell in cells for text in re.findall("`(.*?)`", cell)]
    names: set[str] = set()
    for text in texts:
        name, *rest = text.split()
        inner = rest[0].split(r"\|") if rest and re.fullmatch(r"[a-z][a-z|\\-]*", rest[0]) else []
        names |= {f"{name} {subcommand}" for subcommand in inner} or {name}
    return {name for name in names if not any(other.startswith(f"{name} ") for other in names)}


def test_readme_lists_exactly_the_commands_that_exist() -> None:
    assert _documented() == _commands()


def _options(text: str) -> set[str]:
    """List the options of the command that a text such as `lakehouse keys create NAME` begins with."""
    _, name, *rest = text.replace("`", "").split()
    command: Any = next(lazy.load() for lazy in COMMANDS if lazy.name == name)
    if isinstance(command, TyperGroup) and rest and rest[0] in command.commands:
        command = command.commands[rest[0]]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("text", sorted(set(re.findall(r"`(lakehouse [a-z]+ [^`]*--[^`]*)`", TEXT))))
def test_named_options_exist(text: str) -> None:
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= _options(text)


def test_document_links_resolve() -> None:
    missing = [
        (file.name, target)
        for file in FILES
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", file.read_text())
        if not (file.parent / target).exists()
    ]
    assert missing == []
