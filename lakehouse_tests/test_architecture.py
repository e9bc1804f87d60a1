"""docs/architecture.md and CONTRIBUTING.md name files that exist and draw the rooms in the order that CI checks."""

import ast
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lakehouse"
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
TEXT = ARCHITECTURE + (ROOT / "CONTRIBUTING.md").read_text()

NAMING = ("streams", "bench", "chaos")
"""Rooms whose code may name the package's streams."""

PATHS = sorted(set(re.findall(r"`(lakehouse/[\w/.]+|(?!lakehouse)[\w/]+/(?:\w+\.py)?)`", TEXT)))
"""Paths of the repository, and of the package without `lakehouse/`, such as `landing/` and `landing/keys.py`."""


def _layers() -> list[set[str]]:
    """Read the rooms from pyproject.toml, the highest first; rooms of one layer do not import each other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [{room.strip().removeprefix("lakehouse.") for room in layer.split("|")} for layer in layers]


def _arrows() -> set[tuple[str, str]]:
    """Read the arrows of the picture, each from a room to one below it."""
    (picture,) = re.findall(r"```mermaid\n(.*?)```", ARCHITECTURE, re.DOTALL)
    arrows: set[tuple[str, str]] = set()
    for line in re.sub(r'\["[^"]*"\]', "", picture).splitlines():
        rooms = [part.strip().split(" & ") for part in line.split("-->")]
        arrows |= {(above, below) for ends in pairwise(rooms) for above in ends[0] for below in ends[1]}
    return arrows


@pytest.mark.parametrize("path", PATHS)
def test_named_path_exists(path: str) -> None:
    parts = Path(path).parts
    folder = ROOT if parts[0] == "lakehouse" else PACKAGE
    pattern = "/".join("*" if part.startswith("NAME") else part for part in parts)  # as in `lakehouse/streams/NAME/`
    assert [*folder.glob(pattern)], f"{path} is named and does not exist"


def test_code_names_no_stream_of_the_package() -> None:
    streams = {path.parent.name for path in PACKAGE.glob("streams/*/contract.odcs.yaml")} - {
        "logs"
    }  # also of processes
    modules = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in NAMING]
    named = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        for name in {getattr(node, field, None) for field in ("id", "attr", "arg", "value")} & streams
    }
    assert named == set()


def test_picture_draws_all_rooms() -> None:
    drawn = {room for arrow in _arrows() for room in arrow}
    assert drawn == set[str]().union(*_layers()) - {"__main__"}


def test_arrows_of_picture_point_to_lower_rooms() -> None:
    height = {room: -place for place, layer in enumerate(_layers()) for room in layer}
    assert [(above, below) for above, below in _arrows() if height[above] <= height[below]] == []
