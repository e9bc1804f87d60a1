"""Every room says what belongs in it, and no string names a room above."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(ROOT.glob("lakehouse/**/*.py"))
LAYERS: list[list[str]] = [
    [room.strip().removeprefix("lakehouse.") for room in line.split("|")]
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
]
"""The rooms, from the top down, as import-linter checks them."""

LEVELS = {room: level for level, rooms in enumerate(reversed(LAYERS)) for room in rooms}


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_every_room_has_its_level() -> None:
    rooms = {path.relative_to(ROOT / "lakehouse").parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert rooms == set(LEVELS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_names_no_higher_room_in_a_string(path: Path) -> None:
    """An import by string points down as well, such as a class path or the module of a child process."""
    own = path.relative_to(ROOT / "lakehouse").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    strings = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
    ]
    named = [text for text in strings if re.fullmatch(r"lakehouse(\.[a-z_]+)+(\.[A-Z]\w+)?", text)]
    modules = [text for text in named if _room(text) in LEVELS]
    assert [text for text in modules if LEVELS[_room(text)] > LEVELS[own]] == []


def test_databases_are_opened_where_their_disk_is_limited() -> None:
    """A DuckDB of its own would spill to `.tmp` in the current folder, up to 90 % of the disk."""
    opening = {
        path.relative_to(ROOT / "lakehouse").as_posix()
        for path in MODULES
        if re.search(r"\b(duckdb\.connect|open_database)\(", path.read_text(encoding="utf-8"))
    }
    assert {path for path in opening if not path.startswith("bench/")} == {
        "contracts/in_memory.py",
        "engine/connection.py",
        "engine/database.py",
        "serving/query/reader_process.py",
        "serving/query/worker.py",
    }
