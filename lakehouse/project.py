"""A project: a folder that a user owns, with `lakehouse.toml`, streams, queries and assets. See `docs/projects.md`.

This module finds it and reads its files; what the settings mean is in `settings`.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

from lakehouse.errors import LakehouseError

PROJECT_FILE = "lakehouse.toml"
VARIABLES_FILE = ".env"


NO_PROJECT = "none"
"""The value of LAKEHOUSE_PROJECT with which no file is read, for processes whose environment has all settings."""


def find_project() -> Path | None:
    """Find the folder of the nearest `lakehouse.toml`, from the current folder upwards, or the one of LAKEHOUSE_PROJECT.

    Raises LakehouseError if that has none.
    """
    if (named := os.environ.get("LAKEHOUSE_PROJECT")) == NO_PROJECT:
        return None
    if named:
        folder = Path(named).expanduser().absolute()
        if not (folder / PROJECT_FILE).is_file():
            raise LakehouseError(f"LAKEHOUSE_PROJECT: {folder} has no {PROJECT_FILE}. Make one with: lakehouse init")
        return folder
    start = Path.cwd()
    return next((folder for folder in (start, *start.parents) if (folder / PROJECT_FILE).is_file()), None)


def load_variables(folder: Path | None) -> None:
    """Set the variables of a project's `.env` file that the environment does not have."""
    if folder is not None and (folder / VARIABLES_FILE).is_file():
        for name, value in dotenv_values(folder / VARIABLES_FILE).items():
            if value is not None:
                os.environ.setdefault(name, value)


def read_project(folder: Path, names: Collection[str], secrets: Collection[str]) -> dict[str, Any]:
    """Read the settings of a project's file, of which these are the names.

    Raises LakehouseError, naming the line, if the file is no TOML, has another name, or one of a secret.
    """
    path = folder / PROJECT_FILE
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise LakehouseError(f"{path} can't be read: {error}.") from error
    for name, value in values.items():
        where = f"{path}: line {_line(text, name)}"
        variable = f"LAKEHOUSE_{name.upper()}"
        if name in secrets:
            raise LakehouseError(
                f"{where}: {name} is a secret. Remove it here, and set {variable} in the environment or in"
                f" {folder / VARIABLES_FILE}, or name a secret of AWS Secrets Manager as secret_id."
            )
        if name not in names:
            raise LakehouseError(f"{where}: there is no setting {name!r}.{_nearest(name, names)}")
        if _has_password(value):
            raise LakehouseError(
                f"{where}: {name} has a password. Remove it here, and set {variable} in the environment."
            )
    return values


def _nearest(name: str, names: Collection[str]) -> str:
    plain = name.lower().replace("-", "_").removeprefix("lakehouse_")
    similar = difflib.get_close_matches(plain, names, n=1, cutoff=0)
    return f" The nearest is {similar[0]!r}." if similar else ""


def _line(text: str, name: str) -> int:
    match = re.search(rf"^\s*\[*\s*[\"']?{re.escape(name)}[\"']?\s*[].=]", text, re.MULTILINE)
    return text.count("\n", 0, match.end()) + 1 if match else 1


def _has_password(value: object) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_password, value.values() if isinstance(value, dict) else value))
    try:
        return isinstance(value, str) and bool(urlsplit(value).password)
    except ValueError:
        return False
