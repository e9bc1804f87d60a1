"""Send files through the HTTP server, each row exactly once, however often it is started."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from lakehouse.client.client import Client
from lakehouse.client.parcels import Parcel
from lakehouse.client.results import SendResult
from lakehouse.contracts.casts import value_sql
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import literal, not_of_kind, quote, raw_sql
from lakehouse.contracts.streams import Stream
from lakehouse.errors import SourceChangedError, UnreadableSourceError
from lakehouse.landing.readers import bronze_batches, local_object
from lakehouse.landing.readers.rows import DEFECT, RAW
from lakehouse.landing.upload import reading_folders
from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings

PARCEL = 1000
"""Events in one request. Must not change: a parcel is recognised by its place in the file."""

PARCEL_BYTES = 2 << 20
"""Bytes at which a parcel is full. Must not change either."""

READ_BYTES = 1 << 20

MAX_REASONS = 3
"""Reasons of one file that are kept."""


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """Counts of what the server has stored of a file. The file of its progress has these fields."""

    requests: int = 0
    """Parcels, which is what a resumed run skips, even if the client had to split one into several requests."""
    events: int = 0
    accepted: int = 0
    quarantined: int = 0
    reasons: tuple[str, ...] = ()
    """The first reasons for rejected rows, each once, at most MAX_REASONS."""

    def __add__(self, parcel: SendResult) -> "DeliveryCounts":
        reasons = dict.fromkeys([*self.reasons, *(rejection.reason for rejection in parcel.rejections)])
        return DeliveryCounts(
            self.requests + 1,
            self.events + parcel.events,
            self.accepted + parcel.accepted,
            self.quarantined + parcel.rejected,
            tuple(reasons)[:MAX_REASONS],
        )


@dataclass(frozen=True, slots=True)
class SentFile:
    """One file and what the server has stored of it, over all runs."""

    path: Path
    delivered: DeliveryCounts
    was_already_sent: bool


@dataclass(slots=True)
class _Progress:
    """How much of a file has been sent to one server, kept in a file."""

    path: Path
    delivered: DeliveryCounts
    ended: bool

    @classmethod
    def read(cls, path: Path) -> "_Progress":
        try:
            content = json.loads(path.read_text())
            return cls(path, msgspec.convert(content["delivered"], DeliveryCounts), content["ended"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path, DeliveryCounts(), False)  # if lost, the parcels' names prevent duplicates for a day

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_private(self.path, json.dumps({"delivered": asdict(self.delivered), "ended": self.ended}))


def send(
    settings: Settings,
    stream: Stream,
    paths: Sequence[Path],
    client: Client,
    *,
    dialect: Mapping[str, Any] | None = None,
    rate: float | None = None,
    on_progress: Callable[[Path, DeliveryCounts], None] = lambda _path, _delivered: None,
) -> list[SentFile]:
    """Post the rows of CSV, NDJSON and Parquet files as events, at most `rate` a second.

    `dialect` has the options of these files, by the names that contracts use.

    A file is recognised by its content: rows that the server has stored are not sent again, so an interrupted run
    resumes where it stopped. `on_progress` gets the file's counts so far.

    Raises UnreadableSourceError, SourceChangedError if a file changes meanwhile, and LakehouseError if the server
    rejects the rows.
    """
    return [_send(settings, stream, path, client, dialect or {}, rate, on_progress) for path in paths]


def _send(
    settings: Settings,
    stream: Stream,
    path: Path,
    client: Client,
    dialect: Mapping[str, Any],
    rate: float | None,
    on_progress: Callable[[Path, DeliveryCounts], None],
) -> SentFile:
    digest = _digest(path, dialect)
    name = f"{stream.name}-{digest[:32]}"
    server = hashlib.sha256(client.url.encode()).hexdigest()[:8]
    progress = _Progress.read(settings.root / "http" / "sent" / f"{name}-{server}.json")
    if progress.ended:
        return SentFile(path, progress.delivered, True)

    parcels = _parcels(stream.contract, path, dialect, name, skip=progress.delivered.requests)
    for result in client.deliver(parcels, rate=rate):
        progress.delivered += result
        progress.write()
        on_progress(path, progress.delivered)
    if _digest(path, dialect) != digest:
        raise SourceChangedError(f"{path} changed while it was sent. Send it again when its writer has finished.")
    progress.ended = True
    progress.write()
    return SentFile(path, progress.delivered, False)


def _parcels(contract: Contract, path: Path, dialect: Mapping[str, Any], name: str, *, skip: int) -> Iterator[Parcel]:
    """Yield the file's rows as parcels, named by their place, without the first `skip`."""
    lines: list[bytes] = []
    size, place = 0, 0
    for line in rows_as_lines(contract, path, dialect):
        if lines and (len(lines) == PARCEL or size + len(line) > PARCEL_BYTES):
            if place >= skip:
                yield Parcel(contract.stream, b"".join(lines), len(lines), f"{name}-{place}")
            lines, size, place = [], 0, place + 1
        lines.append(line)
        size += len(line)
    if lines and place >= skip:
        yield Parcel(contract.stream, b"".join(lines), len(lines), f"{name}-{place}")


def rows_as_lines(contract: Contract, path: Path, dialect: Mapping[str, Any] | None = None) -> Iterator[bytes]:
    """Yield the file's rows as lines of JSON, those that can't be read as their reason and text."""
    reason = _defect_sql(contract)
    defect = f"json_object('{DEFECT}', {reason}, '{RAW}', if({DEFECT} is null, {raw_sql(contract)}, {RAW}))"
    line = f"if({reason} is null, {raw_sql(contract, _list_texts(contract))}, {defect}) || chr(10)"
    with open_in_memory() as database:
        name = "/".join(["", *reading_folders(path, dialect), path.name])
        for batch in bronze_batches(contract, [local_object(path, name)]):
            database.register("rows", pa.Table.from_batches([batch]))
            lines = database.execute(f"select {line} as line from rows order by _row").to_arrow_table()
            database.unregister("rows")
            yield from (text.encode() for text in lines["line"].to_pylist() if text is not None)


def _defect_sql(contract: Contract) -> str:
    """Return the SQL of why a row can't be read, also as an event: in JSON, text in place of a list has another reason."""
    reasons = [
        f"case when {name} <> '' and {value_sql(field.type, name)} is null then {literal(not_of_kind(field))} end"
        for field in contract.fields
        if field.type.kind == "list" and (name := quote(field.name))
    ]
    return f"coalesce({DEFECT}, nullif(concat_ws('; ', {', '.join(reasons)}), ''))" if reasons else DEFECT


def _list_texts(contract: Contract) -> dict[str, str]:
    """Return the SQL that writes each list as the JSON array it came from; text that is no array stays text."""
    lists = {field.name: quote(field.name) for field in contract.fields if field.type.kind == "list"}
    return {
        name: f"coalesce(try_cast(if(starts_with(ltrim({text}), '['), {text}, null) as json), to_json({text}))"
        for name, text in lists.items()
    }


def _digest(path: Path, dialect: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(
        "/".join(reading_folders(path, dialect)).encode()
    )  # what decides about rows besides content
    try:
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise UnreadableSourceError(f"Can't read {path}: {error.strerror or error}.") from error
    return digest.hexdigest()
