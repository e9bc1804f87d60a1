"""`environment`: the variables by which other programs reach this lakehouse."""

import shlex
from typing import Annotated

import typer

from lakehouse.cli.printing import print_text
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.connection import tool_variables

Tools = Annotated[
    bool,
    typer.Option("--tools", help="Print those that other tools need to reach storage and catalog; they include keys."),
]


def environment(tools: Tools = False) -> None:
    """Print export lines for `eval "$(lakehouse environment)"`.

    Raises StorageUnavailableError if the lines for tools are asked for and storage is not running.
    """
    if tools:
        variables = tool_variables(storage.connection(get_settings()))
    else:
        from lakehouse.runtime.instance import environment as dagster_environment  # Dagster takes seconds to import

        variables = dagster_environment(get_settings())
    for name, value in variables.items():
        print_text(f"export {name}={shlex.quote(value)}")
