"""The blocks of a copy: some documents each, by field and compressed, because values of one field resemble each other.

A block is lines of JSON: the ids of its documents, then the values of each field in the same order. What stands between
the values is the same in all documents of a look-up, its template. So a document takes some thirty bytes, where JSON takes
hundreds, and compressed JSON half as many again.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

_COLUMNS: Mapping[str, Any] = {"first_id": pa.large_binary(), "bytes": pa.int64(), "block": pa.large_binary()}

SCHEMA = pa.schema(_COLUMNS)
"""The columns of a copy: the first id of each block, in order; the bytes of the block, and the block compressed."""

TEMPLATE_KEY = b"template"
"""The metadata of a copy with its template, a JSON list of texts: one before each value, and one after the last."""

BLOCK_ROWS = 32
"""Documents of a block, at most. Twice as many take 5 % fewer bytes, and twice as long to read one of."""

BLOCK_BYTES = 8 << 10
"""The size of a block with fewer, because a request decompresses all of it."""

MIN_BLOCK_ROWS = 4

CODEC = pa.Codec("zstd", compression_level=5)

NEWLINE = ord("\n")

_IDS = msgspec.json.Decoder(list[str])


def schema_of(template: Sequence[str]) -> pa.Schema:
    """Return the schema of a copy whose documents have this template."""
    return SCHEMA.with_metadata({TEMPLATE_KEY: msgspec.json.encode(template)})


def template_of(schema: pa.Schema) -> list[bytes]:
    """Read the template of a copy."""
    return [text.encode() for text in msgspec.json.decode((schema.metadata or {})[TEMPLATE_KEY], type=list[str])]


def compress(ids: Any, lines: Sequence[Any], schema: pa.Schema) -> pa.RecordBatch:
    """Return the blocks of some documents.

    Args:
        ids: The ids in order, a column of texts.
        lines: Columns of lines, each line with its end: of the ids, then of each field's values.
        schema: That of the copy.

    """
    columns = [_buffers(column) for column in lines]
    size = sum(offsets[len(ids)] - offsets[0] for offsets, _ in columns)
    rows = max(MIN_BLOCK_ROWS, min(BLOCK_ROWS, BLOCK_BYTES * len(ids) // max(size, 1)))
    starts = range(0, len(ids), rows)
    blocks = [
        b"".join(text[offsets[start] : offsets[min(start + rows, len(ids))]] for offsets, text in columns)
        for start in starts
    ]
    arrays: list[pa.Array[Any]] = [
        pa.array([ids[start].as_py().encode() for start in starts], pa.large_binary()),
        pa.array([len(block) for block in blocks], pa.int64()),
        pa.array([CODEC.compress(block, asbytes=True) for block in blocks], pa.large_binary()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _buffers(column: Any) -> tuple[memoryview, memoryview]:
    """Return the offsets of a column of large texts, and its text, without a copy."""
    _, offsets, text = column.buffers()
    return memoryview(offsets).cast("q")[column.offset :], memoryview(text or b"")


class Block:
    """The documents of a block."""

    def __init__(self, compressed: bytes, size: int, template: Sequence[bytes]) -> None:
        """Decompress a block of so many bytes. Raises OSError or ArrowException if it is damaged."""
        self._text = CODEC.decompress(compressed, size, asbytes=True)
        # Of hundreds of lines an answer has a few, so they are found, and not split.
        ends = np.flatnonzero(np.frombuffer(self._text, np.uint8) == NEWLINE)
        self._ends = ends.reshape(len(template), -1)
        self._template = template

    @property
    def ids(self) -> list[str]:
        """The ids of its documents, in order."""
        lines = self._text[: self._ends[0, -1]]
        return _IDS.decode(b"[%s]" % lines.replace(b"\n", b","))

    def get(self, id_: str) -> bytes | None:
        """Return the JSON document of an id; None when there is none."""
        ids = self.ids
        row = bisect_left(ids, id_)
        return self._document(row) if row < len(ids) and ids[row] == id_ else None

    def documents(self) -> Iterator[bytes]:
        """Yield each JSON document."""
        return map(self._document, range(self._ends.shape[1]))

    def _document(self, row: int) -> bytes:
        text, rows = self._text, self._ends.shape[1]
        starts, ends = self._ends.ravel()[rows - 1 + row :: rows].tolist(), self._ends[1:, row].tolist()
        parts = [*self._template, *self._template[1:]]
        parts[::2] = self._template
        parts[1::2] = [text[start + 1 : end] for start, end in zip(starts, ends, strict=False)]
        return b"".join(parts)
