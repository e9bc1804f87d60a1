"""Files as events: NDJSON, JSON arrays, Parquet and Arrow. Files that need a contract's dialect go by `lakehouse send`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from lakehouse.client.columns import batch_events
from lakehouse.errors import UnreadableSourceError

COMPRESSED = (".gz", ".zst", ".bz2")
LINES = (".ndjson", ".jsonl", ".jsonlines", ".json", ".log")
ARROW = (".arrow", ".feather", ".ipc", ".arrows")
SUFFIXES = (*LINES, ".parquet", *ARROW)

IPC_FILE_MAGIC = b"ARROW1"
READ_BYTES = 1 << 20


def file_events(path: Path) -> Iterator[Any]:
    """Yield the events of a file, by its suffix. Raises UnreadableSourceError."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSED
    kind = next(reversed(suffixes[:-1] if compressed else suffixes), "")
    if kind not in SUFFIXES:
        raise UnreadableSourceError(
            f"{path}: files are sent by these suffixes: {', '.join(SUFFIXES)}. For CSV and others, run"
            " `lakehouse send`, which knows the stream's contract, or read the file into a frame and send that."
        )
    try:
        if kind in LINES:
            with _opened(path, compressed=compressed) as file:
                yield from _json_array(file) if kind == ".json" and _is_array(file) else file
        elif kind == ".parquet":
            yield from _parquet(path)
        else:
            yield from _arrow(path)
    except (OSError, ValueError) as error:  # Arrow's errors are among them
        raise UnreadableSourceError(f"Can't read {path}: {error}.") from error


@contextmanager
def _opened(path: Path, *, compressed: bool) -> Iterator[IO[bytes]]:
    if not compressed:
        with path.open("rb") as file:
            yield file
        return
    import io

    import pyarrow as pa

    stream: Any = pa.input_stream(path, compression="detect")
    with stream, io.BufferedReader(stream, READ_BYTES) as file:
        yield file


def _is_array(file: IO[bytes]) -> bool:
    start: bytes = file.peek(64)[:64]  # type: ignore[attr-defined]
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _json_array(file: IO[bytes]) -> Iterator[bytes]:
    content = file.read().removeprefix(b"\xef\xbb\xbf")
    yield from (bytes(event) for event in msgspec.json.decode(content, type=list[msgspec.Raw]))


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(5_000):
            yield from batch_events(batch)


def _arrow(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    with path.open("rb") as file:
        is_file = file.read(len(IPC_FILE_MAGIC)) == IPC_FILE_MAGIC
    with pa.memory_map(str(path)) as source:
        if is_file:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield from batch_events(reader.get_batch(number))
        else:
            for batch in pa.ipc.open_stream(source):
                yield from batch_events(batch)
