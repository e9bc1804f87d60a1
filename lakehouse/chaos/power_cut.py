"""`bench faults --whole`, second part: cut the power of a disk under load, and count what its copy still holds.

The home is on a disk of its own: an ext4 image on a loop device. A cut stops storage and copies the image without a sync, so
the copy has what the disk would have. The copy is mounted, which replays its journal, and storage starts on it.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil

from lakehouse.auditing.audit import audit
from lakehouse.bench.figures import Figure, figure
from lakehouse.bench.ingest import serving
from lakehouse.chaos.faulty_lake import alone, days
from lakehouse.chaos.sender import STREAM, Events, Sender
from lakehouse.engine.connection import scan_sql
from lakehouse.errors import CommitConflictError, StorageUnavailableError
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

DISK_MB = 1500
SENDERS = 3
BATCHES = 12
"""Requests of each sender."""

MAX_LOAD_SECONDS = 3.0
"""A cut comes at a random moment within so many seconds of load."""

TOOLS = ("mkfs.ext4", "mount", "umount")


def unavailable() -> str | None:
    """Return why power can't be cut here; None if it can."""
    if sys.platform != "linux":
        return "only Linux has loop devices"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} is not installed"
    try:
        with _disk():
            return None
    except subprocess.CalledProcessError as error:
        return f"this user can't mount a disk: {error.stderr.decode().strip()}"


def measure(cuts: int, seed: int) -> Iterator[Figure]:
    """Yield the figures after `cuts` cuts. Raises AssertionError with a cut's seed at the first that loses anything."""
    if reason := unavailable():
        yield figure("faults", "power cuts", 0, "", skipped=reason)
        return
    acknowledged = 0
    with powered() as lakehouse:
        for number in range(seed, seed + cuts):
            acknowledged = lakehouse.cut(number)
    yield figure("faults", "power cuts", cuts, "", seed=seed)
    yield figure("faults", "events acknowledged before a cut", acknowledged, "")
    yield figure("faults", "lost by a power cut", 0, "", 0)


@dataclass(frozen=True)
class _Disk:
    image: Path
    folder: Path
    """Where it is mounted."""


class PoweredLakehouse:
    """A lakehouse on a disk whose power can be cut: storage, an HTTP server and bronze, under load."""

    def __init__(self, disk: _Disk, lake: Lake, url: str) -> None:
        self._disk, self._lake, self._url = disk, lake, url
        self._stream = lake.stream(STREAM)
        self._events = Events()

    def cut(self, seed: int) -> int:
        """Cut the power under load. Returns how many events had been acknowledged by then.

        Raises AssertionError if the disk's copy lacks one of them, or an audit of it finds anything wrong.
        """
        rng, done = random.Random(seed), Event()  # noqa: S311
        senders = [Sender(self._events, rng, lambda: self._url, batches=BATCHES) for _ in range(SENDERS)]
        committing = Thread(target=self._commit, args=(done,))
        for thread in (*senders, committing):
            thread.start()
        time.sleep(rng.uniform(0.0, MAX_LOAD_SECONDS))
        with tempfile.TemporaryDirectory(prefix="lakehouse-cut-") as folder:
            copy = Path(folder, "copy.ext4")
            acknowledged = self._copy(copy)
            done.set()
            for thread in (*senders, committing):
                thread.join()
            with _mounted(copy) as mounted:
                _check(mounted / "home", acknowledged, seed)
        return len(acknowledged)

    def _copy(self, target: Path) -> set[str]:
        """Copy what the disk holds while storage stands still, and return the events that were acknowledged before."""
        server = psutil.Process(storage.status(self._lake.settings).pid)
        server.send_signal(signal.SIGSTOP)
        try:
            acknowledged = {*self._events.acknowledged}
            subprocess.run(["cp", "--sparse=always", self._disk.image, target], check=True)
        finally:
            server.send_signal(signal.SIGCONT)
        return acknowledged

    def _commit(self, done: Event) -> None:
        while not done.is_set():
            with suppress(CommitConflictError, StorageUnavailableError):
                ingest_days(self._lake, self._stream, days())


@contextmanager
def powered() -> Iterator[PoweredLakehouse]:
    """Run a lakehouse of one stream on a disk of its own."""
    with ExitStack() as stack:
        disk = stack.enter_context(_disk())
        settings = Settings(home=disk.folder / "home", storage="embedded")
        lake = alone(Lake(settings, stack.enter_context(storage.running(settings))))
        stack.callback(lambda: lake.engine.close())
        lake.bootstrap()
        running = stack.enter_context(serving(settings))
        yield PoweredLakehouse(disk, lake, running.url)


def _check(home: Path, acknowledged: set[str], seed: int) -> None:
    settings = Settings(home=home, storage="embedded")
    with storage.running(settings) as connection:
        lake = alone(Lake(settings, connection))
        ingest_days(lake, lake.stream(STREAM), days())
        with lake.engine.cursor() as cursor:
            scan = scan_sql(lake.tables.load(f"bronze.{STREAM}"))
            held = {key for (key,) in cursor.execute(f"select distinct event_id from {scan}").fetchall()}
        wrong = audit(lake, [lake.stream(STREAM)]).wrong
        lake.engine.close()
    lost = acknowledged - held
    if lost or wrong:
        raise AssertionError(f"cut of seed {seed}: {len(lost)} of {len(acknowledged)} events lost; {wrong[:3]}")


@contextmanager
def _disk() -> Iterator[_Disk]:
    with tempfile.TemporaryDirectory(prefix="lakehouse-disk-") as folder:
        image = Path(folder, "disk.ext4")
        with image.open("wb") as file:
            file.truncate(DISK_MB << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        with _mounted(image) as mounted:
            yield _Disk(image, mounted)


@contextmanager
def _mounted(image: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lakehouse-mount-") as folder:
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # a server that is being killed may hold it
