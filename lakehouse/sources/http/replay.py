"""Sending files through the HTTP server, each event once however often it is asked for. Posting itself is `delivery`'s."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import raw_sql
from lakehouse.contracts.streams import Stream
from lakehouse.errors import SourceChangedError, UnreadableSourceError
from lakehouse.landing.readers import bronze_batches, local_object
from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings
from lakehouse.sources.http.client import DeliveryCounts, Parcel, Target, deliver

PARCEL = 1000
"""Events of one request. A number that must not change: parcels are known again by their place in the file."""

PARCEL_BYTES = 2 << 20

READ = 1 << 20


@dataclass(frozen=True, slots=True)
class SentFile:
    """One file: what the server has taken of it in all, and whether that was so before."""

    path: Path
    delivered: DeliveryCounts
    was_already_sent: bool


def send(
    settings: Settings,
    stream: Stream,
    paths: Sequence[Path],
    target: Target,
    *,
    rate: float | None = None,
    on_progress: Callable[[Path, DeliveryCounts], None] = lambda _path, _delivered: None,
) -> list[SentFile]:
    """Post the rows of CSV, NDJSON and Parquet files as events; with `rate`, so many a second.

    A file is known by its content: what of it the server has taken is not sent again, so that a run that was broken off
    goes on where it stopped. `on_progress` gets the file's counts so far. Raises UnreadableSourceError,
    SourceChangedError, and LakehouseError where the server refuses.
    """
    return [_send(settings, stream, path, target, rate, on_progress) for path in paths]


def _send(
    settings: Settings,
    stream: Stream,
    path: Path,
    target: Target,
    rate: float | None,
    on_progress: Callable[[Path, DeliveryCounts], None],
) -> SentFile:
    digest = _digest(path)
    memory = settings.root / "http" / "sent" / f"{stream.name}-{digest[:32]}-{_digest_of(target.url)[:8]}.json"
    so_far, ended = _remembered(memory)
    if ended:
        return SentFile(path, so_far, True)

    def remember(delivered: DeliveryCounts) -> None:
        nonlocal so_far
        so_far += delivered
        _remember(memory, so_far, ended=False)
        on_progress(path, so_far)

    parcels = _parcels(stream.contract, path, f"{stream.name}-{digest[:32]}", skip=so_far.requests)
    deliver(target, parcels, rate=rate, on_delivered=remember)
    if _digest(path) != digest:
        raise SourceChangedError(f"{path} changed while it was sent; send it again when its writer has finished.")
    _remember(memory, so_far, ended=True)
    return SentFile(path, so_far, False)


def _parcels(contract: Contract, path: Path, name: str, *, skip: int) -> Iterator[Parcel]:
    """The file's rows as parcels, without the first `skip`, named by their place."""
    lines: list[bytes] = []
    size, place = 0, 0
    for line in _lines(contract, path):
        if lines and (len(lines) == PARCEL or size + len(line) > PARCEL_BYTES):
            if place >= skip:
                yield Parcel(contract.stream, b"".join(lines), len(lines), f"{name}-{place}")
            lines, size, place = [], 0, place + 1
        lines.append(line)
        size += len(line)
    if lines and place >= skip:
        yield Parcel(contract.stream, b"".join(lines), len(lines), f"{name}-{place}")


def _lines(contract: Contract, path: Path) -> Iterator[bytes]:
    """The file's rows, each as a line of JSON; those that can't be read as they stand, for they count too."""
    # A line end would make two rows of one that could not be read.
    line = f"translate({raw_sql(contract)}, chr(10) || chr(13), '  ') || chr(10)"
    with duckdb.connect(config={"threads": 1}) as database:
        for batch in bronze_batches(contract, [local_object(path)]):
            database.register("rows", pa.Table.from_batches([batch]))
            found = database.execute(f"select {line} as line from rows order by _row").to_arrow_table()
            database.unregister("rows")
            for text in found["line"].to_pylist():
                yield (text or "\n").encode()


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(READ):
                found.update(piece)
    except OSError as problem:
        raise UnreadableSourceError(f"Can't read {path}: {problem.strerror or problem}.") from problem
    return found.hexdigest()


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _remembered(memory: Path) -> tuple[DeliveryCounts, bool]:
    try:
        found = json.loads(memory.read_text())
        return DeliveryCounts(**found["delivered"]), found["ended"]
    except (OSError, ValueError, KeyError, TypeError):
        return DeliveryCounts(), False  # lost: the parcels' names keep them from landing twice within a day


def _remember(memory: Path, delivered: DeliveryCounts, *, ended: bool) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    write_private(memory, json.dumps({"delivered": asdict(delivered), "ended": ended}))
