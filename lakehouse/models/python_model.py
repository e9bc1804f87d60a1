"""Load a model in Python: a file whose docstring is the header, with a function `model`."""

import ast
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lakehouse.errors import ModelError
from lakehouse.models.header import Header, parse_header
from lakehouse.models.problems import model_error

FUNCTION = "model"

Compute = Callable[[Mapping[str, Any]], Any]
"""Takes each table that the header reads, by name, as a DuckDB relation; returns a relation, an Arrow table or a data frame."""


def read_python(path: Path, text: str) -> tuple[Header, str]:
    """Read the header of a Python file, and its code in a form without comments and white space. Raises ModelError."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise model_error(path, f"SyntaxError: {error.msg}", error.lineno) from error
    docstring = ast.get_docstring(tree, clean=False)
    if docstring is None:
        raise model_error(path, "must start with a docstring that has a description, in YAML")
    header = parse_header(path, docstring)
    if not header.reads:
        raise model_error(path, "the header must list the tables that it reads, such as reads: [silver.orders]")
    if not any(isinstance(part, ast.FunctionDef) and part.name == FUNCTION for part in tree.body):
        raise model_error(path, f"must define a function {FUNCTION}(tables)")
    return header, ast.dump(ast.Module(tree.body[1:], []))


def load_function(path: Path) -> Compute:
    """Import the function of a model's file. Raises ModelError with the line at which the import fails."""
    spec = importlib.util.spec_from_file_location(f"lakehouse_model_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Bytecode knows its source by the second, so that a file saved twice in one would be loaded as it was first.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise python_error(path, error) from error
    finally:
        sys.dont_write_bytecode = before
    function: Compute = getattr(module, FUNCTION)
    return function


def not_loaded(tables: Mapping[str, Any]) -> Any:
    """Stand for the function of a file that is only described."""
    raise LookupError(f"The function was not loaded, so it can't be called with {', '.join(tables)}.")


def python_error(path: Path, error: BaseException) -> ModelError:
    """Describe an error with the line of the model's own file at which it came up."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return model_error(path, f"{type(error).__name__}: {error}", lines[-1] if lines else None)
