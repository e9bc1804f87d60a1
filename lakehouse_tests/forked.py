"""Run the `lakehouse` command, and servers, in forks of a process that has imported everything: milliseconds, not seconds."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from lakehouse.processes.child import PRIVATE_UMASK, SAFE_PATH, python_command

TIMEOUT_SECONDS = 240.0

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["lakehouse.chaos.preload", "lakehouse.cli.app", "granian.server", "litestar"])


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


class ForkedServer:
    """A server that runs in a fork, as `subprocess.Popen` describes one that runs in a new process."""

    def __init__(self, command: Sequence[str], log: Path, *, env: Mapping[str, str]) -> None:
        """Start what `python_command` returned, as `processes.child.spawn` does: its output is appended to `log`."""
        *_, module = command
        assert [*command] == python_command(module), command
        log.parent.mkdir(parents=True, exist_ok=True)
        self._process = CONTEXT.Process(target=_serve, args=(module, str(log), {**env, **SAFE_PATH}))
        self._process.start()
        atexit.register(self._end)
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Wait until it has ended."""
        self._process.join()
        return self._process.exitcode

    def _end(self) -> None:
        """Kill it if its test did not stop it. Otherwise Python would wait for it at its end."""
        with suppress(ValueError):
            self._process.kill()


def _serve(module: str, log: str, environment: dict[str, str]) -> None:
    import duckdb

    from lakehouse.settings import get_settings

    os.setsid()
    os.umask(PRIVATE_UMASK)
    os.environ.clear()
    os.environ.update(environment)
    get_settings.cache_clear()
    _redirect(0, os.devnull, os.O_RDONLY)
    for descriptor in (1, 2):
        _redirect(descriptor, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    duckdb.set_default_connection(duckdb.connect())  # the one of the process that this is a fork of has no threads here
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _redirect(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)
