"""`init`: make a project, a folder that its user owns."""

import json
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from lakehouse.cli.printing import print_text
from lakehouse.contracts.odcs import CONTRACT_FILE
from lakehouse.contracts.streams import SHIPPED
from lakehouse.errors import LakehouseError
from lakehouse.project import PROJECT_FILE
from lakehouse.serving.query.named_queries import BUILTIN_FOLDER, streams_read
from lakehouse.settings import Settings

SET = {"examples": False} | {
    name: [name] for name in ("streams", "models", "queries", "lookups", "dashboards", "assets")
}
"""Settings of a new project. Its file has all others as comments."""

NEXT_STEPS = (
    "lakehouse streams new trips --from trips.csv",
    "lakehouse up --detach",
    "lakehouse load trips trips.csv",
    'lakehouse query "select * from gold.trips_daily"',
    "python -m pytest",
)

Folder = Annotated[Path, typer.Argument(help="The folder; it is made if there is none.")]
Example = Annotated[
    list[str] | None,
    typer.Option("--example", metavar="STREAM|all", help="Copy a stream of the package, or all. Repeat it for more."),
]


def init(folder: Folder, example: Example = None) -> None:
    """Write the files of a project that the folder does not have. Raises LakehouseError if it is a project already."""
    if (folder / PROJECT_FILE).exists():
        raise LakehouseError(f"{folder / PROJECT_FILE} exists already: {folder} is a project. Choose another folder.")
    examples = _examples(example or [])
    try:
        left_alone = [path for path, text in _files(examples) if not _write(folder / path, text)]
    except OSError as error:
        raise LakehouseError(f"Can't write {error.filename or folder}: {error.strerror or error}.") from error
    print_text(f"Made a project in {folder}.")
    for path in left_alone:
        print_text(f"Left alone, because it was there before: {folder / path}")
    print_text("Next:")
    for step in (f"cd {folder}", *NEXT_STEPS):
        print_text(f"  {step}")


def _examples(names: list[str]) -> list[str]:
    shipped = sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONTRACT_FILE}"))
    if unknown := sorted({*names} - {*shipped, "all"}):
        raise LakehouseError(f"There is no example {', '.join(unknown)}; there are {', '.join(shipped)}, and all.")
    return shipped if "all" in names else [name for name in shipped if name in names]


def _write(path: Path, content: bytes) -> bool:
    """Write a file unless there is one. Return whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _files(examples: list[str]) -> Iterator[tuple[Path, bytes]]:
    """Yield each file of a project, the project's own file last: with it, the project is whole."""
    for path, content in _tree(files("lakehouse.cli") / "template", Path()):
        yield path, content.replace(b"{version}", version("lakehouse").encode())
    yield Path(".env.example"), _variables().encode()
    for name in examples:
        for source in sorted((SHIPPED / name).iterdir()):
            if source.is_file():
                yield Path("streams", name, source.name), source.read_bytes()
    for source in sorted(BUILTIN_FOLDER.glob("*.sql")):
        if (read := streams_read(source.read_text(encoding="utf-8"))) and read <= {*examples}:
            yield Path("queries", source.name), source.read_bytes()
    yield Path(PROJECT_FILE), _settings().encode()


def _tree(folder: Traversable, path: Path) -> Iterator[tuple[Path, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        below = path / entry.name.replace("dot_", ".")
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _tree(entry, below)
        elif entry.is_file():
            yield below, entry.read_bytes()


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in get_args(field.annotation)


def _settings() -> str:
    """Write the project's file: what a project sets, and every other setting with its default as a comment."""
    lines = [
        "# The settings of this lakehouse. Variables LAKEHOUSE_… of the environment, and of .env, take precedence.",
        "# Paths are relative to this folder. Secrets are refused here: see .env.example.",
        "",
        *(f"{name} = {json.dumps(value)}" for name, value in SET.items()),
    ]
    for name, field in Settings.model_fields.items():
        if name not in {*SET, "project"} and not _is_secret(field):
            lines += ["", f"# {field.description}", f"# {name} ={_default(field)}"]
    return "\n".join([*lines, ""])


def _default(field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True)
    match default:
        case None:
            return ""
        case date() as day:
            return f" {day}"
        case dict() | BaseModel():
            return " {}"
        case Path() as path:
            return f" {json.dumps(str(path))}"
        case _:
            return f" {json.dumps(default)}"


def _variables() -> str:
    """Write the secrets of the settings as variables without values."""
    lines = ["# Copy this file to .env, which is not committed, and set what you need."]
    for name, field in Settings.model_fields.items():
        if _is_secret(field):
            lines += ["", f"# {field.description}", f"# LAKEHOUSE_{name.upper()}="]
    return "\n".join([*lines, ""])
