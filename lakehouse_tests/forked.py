"""Run the `lakehouse` command in a fork of a process that has imported everything: milliseconds instead of seconds."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

TIMEOUT_SECONDS = 240.0

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["lakehouse.chaos.preload", "lakehouse.cli.app"])


def start(target: Callable[..., None], arguments: Sequence[object]) -> BaseProcess:
    """Start a function in a fork that has the environment of now, and not of when the first fork was made."""
    process = CONTEXT.Process(target=_with_environment, args=(dict(os.environ), target, tuple(arguments)))
    process.start()
    return process


def _with_environment(environment: Mapping[str, str], target: Callable[..., None], arguments: Sequence[object]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)


def run_forked(
    words: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `lakehouse` with these words and exactly this environment, in `folder`, without standard input.

    Raises TimeoutExpired after four minutes.
    """
    with TemporaryDirectory(prefix="lakehouse-command-") as outputs:
        out, err = Path(outputs, "out"), Path(outputs, "err")
        arguments = list(words), dict(environment), folder or Path.cwd(), str(out), str(err)
        process = CONTEXT.Process(target=_main, args=arguments)
        process.start()
        process.join(TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(list(words), TIMEOUT_SECONDS)
        return subprocess.CompletedProcess(list(words), process.exitcode, out.read_text(), err.read_text())


def _main(words: list[str], environment: dict[str, str], folder: Path, out: str, err: str) -> None:
    from lakehouse.cli.app import main
    from lakehouse.settings import get_settings

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    get_settings.cache_clear()
    _redirect(0, os.devnull, os.O_RDONLY)
    _redirect(1, out, os.O_WRONLY | os.O_CREAT)
    _redirect(2, err, os.O_WRONLY | os.O_CREAT)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["lakehouse", *words]
    main()


def _redirect(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)
