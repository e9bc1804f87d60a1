"""Load a project's own Dagster definitions from Python files, each by itself, so that one that is wrong stops no other."""

import importlib
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import dagster as dg

from lakehouse.processes.problems import METADATA_KEY

PACKAGE = "lakehouse_assets"
"""The package as whose modules the files are imported, so that one can import another: `from .columns import NAMES`."""


def with_project_assets(base: dg.Definitions, folders: Sequence[Path], others: Sequence[str] = ()) -> dg.Definitions:
    """Add the definitions in the Python files of these folders. A file that is wrong is left out, and reported as metadata.

    `others` are problems of other files, which are reported too.
    """
    if not folders and not others:
        return base
    loaded: dict[str, dg.Definitions] = {}
    missing = (folder for folder in folders if not folder.is_dir())
    problems = [
        *others,
        *(f"{folder}: is not a folder. LAKEHOUSE_ASSETS lists folders of Python files." for folder in missing),
    ]
    with _package(folders):
        for name in sorted(module.name for module in pkgutil.iter_modules(map(str, folders))):
            try:
                loaded[name] = _definitions(importlib.import_module(f"{PACKAGE}.{name}"))
            except (Exception, SystemExit) as error:
                problems.append(_problem(error, folders))
    merged, conflicts = _merge(base, loaded)
    if problems := [*problems, *conflicts]:
        return dg.Definitions.merge(merged, dg.Definitions(metadata={METADATA_KEY: problems}))
    return merged


def problems_of(definitions: dg.Definitions) -> list[str]:
    """List what is wrong with the files that definitions lack."""
    listed = (definitions.metadata or {}).get(METADATA_KEY)
    return list(map(str, listed.value)) if isinstance(listed, dg.JsonMetadataValue) and listed.value else []


@contextmanager
def _package(folders: Sequence[Path]) -> Iterator[None]:
    """Make the folders a package, without modules of an earlier load."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    package = sys.modules[PACKAGE] = ModuleType(PACKAGE)
    package.__path__ = [str(folder) for folder in folders]
    importlib.invalidate_caches()
    # Bytecode knows its source by the second, so that a file saved twice in one would be loaded as it was first.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _definitions(module: ModuleType) -> dg.Definitions:
    """Return the definitions that a module holds: those that it has made itself, else every asset, check, job and so on."""
    own = [value for value in vars(module).values() if isinstance(value, dg.Definitions)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # Dagster 1.13 calls the function a preview
        return dg.Definitions.merge(*own) if own else dg.load_definitions_from_module(module)


def _merge(base: dg.Definitions, loaded: dict[str, dg.Definitions]) -> tuple[dg.Definitions, list[str]]:
    """Merge what goes together. Returns the rest as problems, such as an asset that there is already."""
    try:
        merged = dg.Definitions.merge(base, *loaded.values())
        dg.Definitions.validate_loadable(merged)
    except Exception as error:
        if len(loaded) == 1:
            return base, [f"{_file(name)}: line 1: {_text(error)}" for name in loaded]
    else:
        return merged, []
    problems = []
    for name, definitions in loaded.items():
        base, conflicts = _merge(base, {name: definitions})
        problems += conflicts
    return base, problems


def _file(name: str) -> str:
    return str(sys.modules[f"{PACKAGE}.{name}"].__file__)


def _problem(error: BaseException, folders: Sequence[Path]) -> str:
    """Describe an error with the line of the project's own file at which it came up."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}: line {error.lineno}: {_text(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if any(Path(frame.filename).is_relative_to(folder) for folder in folders)]
    where = f"{own[-1].filename}: line {own[-1].lineno}: " if own else ""
    return f"{where}{_text(error)}"


def _text(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"
