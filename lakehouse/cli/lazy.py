"""Commands that are imported when they are run, so that `lakehouse --help` imports none of them."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LazyCommand(TyperCommand):
    """A command, or a group of commands, known by its name and help until it is run."""

    def __init__(self, name: str, target: str, help: str) -> None:  # noqa: A002  # the name that Typer uses
        """Name the command; `target` is `module:attribute`, a function or a `typer.Typer`."""
        super().__init__(name, help=help)
        self._target = target

    def load(self) -> TyperCommand | TyperGroup:
        """Import the command."""
        module, _, attribute = self._target.partition(":")
        target = getattr(import_module(module), attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False)
            target.command()(function)
        command: Any = typer.main.get_command(target)
        command.name, command.help = self.name, self.help
        return command  # type: ignore[no-any-return]

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the arguments as the loaded command does."""
        return self.load().make_context(*args, **kwargs)
