"""Debian's PostgreSQL server, for tests that need it."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lakehouse.processes.ports import free_port


def _program(name: str) -> str | None:
    path = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) if Path("/usr/lib/postgresql").is_dir() else []
    return str(places[-1]) if places else path


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server with an empty database, and yield its URL. Skips the test where there is no PostgreSQL."""
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL here: `apt-get install postgresql` has it")
    account = None
    if os.geteuid() == 0:  # the server refuses to be run by root
        try:
            account = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no account postgres")
    with tempfile.TemporaryDirectory(prefix="lakehouse-postgres-") as folder:
        data = Path(folder, "data")
        if account:
            shutil.chown(folder, account)
        port = free_port()
        as_owner = {"user": account, "cwd": folder}
        subprocess.run(
            [initdb, "-D", str(data), "-U", "lake", "-A", "trust", "--no-sync"],
            check=True,
            capture_output=True,
            **as_owner,
        )  # type: ignore[call-overload]
        words = [server, "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        words += ["-c", "fsync=off", "-k", folder]
        running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_owner)  # type: ignore[call-overload]
        try:
            _await(port)
            yield f"postgresql://lake@127.0.0.1:{port}/postgres"
        finally:
            running.terminate()
            running.wait(30)


def _await(port: int) -> None:
    for _ in range(300):
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("PostgreSQL did not come up within 30 s")
