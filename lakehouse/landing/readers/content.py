"""Open landing objects and stream their bytes: as stored, decompressed, and as UTF-8 text without a byte order mark.

What the text means is up to the readers of each format.
"""

import bz2
import codecs
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from lakehouse.errors import SourceChangedError

CHUNK_BYTES = 4 << 20
"""Bytes read at once."""

_STEP_BYTES = 64 << 10
"""Bytes decompressed at once. Only within the step that holds a corrupt byte is gzip read byte by byte."""

GZIP_MAGIC, ZSTD_MAGIC, BZIP2_MAGIC, XZ_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00"

MAX_COMPRESSION_LAYERS = 3
"""How often content may be compressed: `x.csv.gz.gz` is twice."""

_MAGIC_BYTES = 10
"""Bytes by which a compression is recognised."""

_XZ_MEMORY_BYTES = 256 << 20
"""The memory that decompressing xz may take. A file of `xz -9` takes 65 MiB."""


class InputStream(Protocol):
    """An open object, such as a file, an `io.BytesIO` or an obstore reader. Parquet uses `seek` if there is one."""

    def read(self, size: int, /) -> object:
        """Read at most `size` bytes, as anything with the buffer protocol; nothing at the end."""

    def close(self) -> object:
        """Release the object."""


@dataclass(frozen=True, slots=True)
class InputObject:
    """A landing object to read: `name` is its key (bronze `_object`), `size` its bytes as stored."""

    name: str
    arrived_at: datetime
    size: int
    open: Callable[[], InputStream]


def local_object(path: Path, name: str | None = None, arrived_at: datetime | None = None) -> InputObject:
    """Read a local file as a landing object. The default arrival time is the file's modification time.

    Bytes of the name that are not UTF-8 are escaped, because names are a column of the rows.
    """
    stat = path.stat()
    arrived_at = arrived_at or datetime.fromtimestamp(stat.st_mtime, UTC)
    name = os.fsencode(name or path.name).decode("utf-8", "backslashreplace")
    return InputObject(name, arrived_at, stat.st_size, lambda: path.open("rb", buffering=0))


class DamagedContentError(Exception):
    """The rest of an object can't be read. The readers keep what came before it and turn this into a defect row."""


def stored_chunks(obj: InputObject) -> Iterator[bytes]:
    """Stream the object's bytes as stored. Raises SourceChangedError if their number differs from the listing."""
    stream, read_bytes = obj.open(), 0
    try:
        while chunk := read(stream, CHUNK_BYTES):
            read_bytes += len(chunk)
            yield chunk
    finally:
        stream.close()
    if read_bytes != obj.size:
        raise SourceChangedError(
            f"{obj.name}: {obj.size} bytes were listed and {read_bytes} read;"
            " load it again when its writer has finished"
        )


def read(stream: InputStream, size: int) -> bytes:
    """Read at most `size` bytes; none at the end."""
    return bytes(memoryview(stream.read(size)))  # type: ignore[arg-type]


def decompressed_chunks(obj: InputObject) -> Iterator[bytes]:
    """Stream the object's bytes decompressed, as its magic number says.

    Raises DamagedContentError where the compressed stream breaks off, and SourceChangedError like `stored_chunks`.
    """
    return _decompressed(stored_chunks(obj))


def text_chunks(obj: InputObject, encoding: str | None = None) -> Iterator[bytes]:
    """Stream the object's text as UTF-8. Chunks may end within a character. Raises what `decompressed_chunks` raises.

    `encoding` is that of objects without a byte order mark; by default UTF-8.
    """
    yield from _as_utf8(decompressed_chunks(obj), encoding)


def plain_text(obj: InputObject) -> bytes | None:
    """Read all of a small object. None unless it is stored as UTF-8 without a byte order mark, as far as its start tells.

    Raises SourceChangedError like `stored_chunks`.
    """
    content = b"".join(stored_chunks(obj))
    return None if content.startswith(_MARKS) else content


def _peek(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, at least `size` if there are so many, and an iterator over all bytes."""
    start = b""
    try:
        for chunk in chunks:
            start += chunk
            if len(start) >= size:
                break
    except DamagedContentError as error:
        chunks = _raising(error)
    return start, chain([start] if start else [], chunks)


def _raising(error: DamagedContentError) -> Iterator[bytes]:
    raise error
    yield b""


def _decompressed(chunks: Iterator[bytes], layers: int = MAX_COMPRESSION_LAYERS) -> Iterator[bytes]:
    start, chunks = _peek(chunks, _MAGIC_BYTES)
    for magic, decompress in _DECOMPRESSORS:
        if layers and magic.match(start):
            return _decompressed(decompress(chunks), layers - 1)
    return chunks


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress gzip members that follow one another, padded with at most zeros (RFC 1952)."""
    member, read_bytes = zlib.decompressobj(wbits=31), 0
    for chunk in chunks:
        for start in range(0, len(chunk), _STEP_BYTES):
            rest = chunk[start : start + _STEP_BYTES]
            read_bytes += len(rest)
            while rest:
                if member.eof:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    member = zlib.decompressobj(wbits=31)
                before = member.copy()
                try:
                    yield member.decompress(rest, CHUNK_BYTES)
                except zlib.error as error:
                    text, sound_bytes = _sound_start(before, rest)
                    yield text
                    offset = read_bytes - len(rest) + sound_bytes
                    raise DamagedContentError(f"gzip stream is corrupt after {offset} bytes: {error}") from error
                rest = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise DamagedContentError(f"gzip stream ends early after {read_bytes} bytes")


def _sound_start(member: "zlib._Decompress", data: bytes) -> tuple[bytes, int]:
    """Decompress corrupt data byte by byte. Returns the text before the corrupt byte and how many bytes it took."""
    texts: list[bytes] = []
    for i in range(len(data)):
        try:
            texts.append(member.decompress(data[i : i + 1]))
        except zlib.error:
            return b"".join(texts), i
    return b"".join(texts), len(data)


class _ChunkFile(io.RawIOBase):
    """Chunks as the file that Arrow's decompressor reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        part, self._rest = self._rest[:size], self._rest[size:]
        self.read_bytes += len(part)
        return part


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    file = _ChunkFile(chunks)
    with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
        while True:
            try:
                chunk = stream.read(CHUNK_BYTES)
            except OSError as error:
                ends_early = "truncated" in str(error).lower()
                damage = "ends early" if ends_early else "is corrupt"
                detail = "" if ends_early else f": {error}"
                raise DamagedContentError(f"zstd stream {damage} after {file.read_bytes} bytes{detail}") from error
            if not chunk:
                return
            yield chunk


def _unbzip2(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return _decoded(chunks, "bzip2", bz2.BZ2Decompressor)


def _unxz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return _decoded(chunks, "xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES))


def _decoded(
    chunks: Iterator[bytes], name: str, new_decoder: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
) -> Iterator[bytes]:
    """Decompress streams that follow one another, padded with at most zeros."""
    decoder, read_bytes = new_decoder(), 0
    for chunk in chunks:
        for start in range(0, len(chunk), _STEP_BYTES):
            rest = chunk[start : start + _STEP_BYTES]
            read_bytes += len(rest)
            while rest or not (decoder.eof or decoder.needs_input):
                if decoder.eof:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    decoder = new_decoder()
                try:
                    yield decoder.decompress(rest, CHUNK_BYTES)
                except (OSError, lzma.LZMAError) as error:
                    raise DamagedContentError(f"{name} stream is corrupt after {read_bytes} bytes: {error}") from error
                rest = decoder.unused_data if decoder.eof else b""
    if not decoder.eof:
        raise DamagedContentError(f"{name} stream ends early after {read_bytes} bytes")


_DECOMPRESSORS: tuple[tuple[re.Pattern[bytes], Callable[[Iterator[bytes]], Iterator[bytes]]], ...] = (
    (re.compile(re.escape(GZIP_MAGIC)), _gunzipped),
    (re.compile(re.escape(ZSTD_MAGIC)), _unzstd),
    (re.compile(BZIP2_MAGIC + rb"[1-9](1AY&SY|\x17rE8P\x90)"), _unbzip2),
    (re.compile(re.escape(XZ_MAGIC)), _unxz),
)
"""The start of compressed content, and what decompresses it. Text may start with `BZh9`, so more is compared there."""


_MARKS = (
    *(GZIP_MAGIC, ZSTD_MAGIC, BZIP2_MAGIC, XZ_MAGIC),
    *(codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
)


_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # it begins with that of UTF-16
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def _as_utf8(chunks: Iterator[bytes], declared: str | None) -> Iterator[bytes]:
    start, chunks = _peek(chunks, 4)
    for mark, encoding in _WIDE_MARKS:
        if start.startswith(mark):
            return _transcoded(_without_start(chunks, len(mark)), encoding)
    if start.startswith(codecs.BOM_UTF8):
        return _without_start(chunks, len(codecs.BOM_UTF8))
    return chunks if declared is None or codecs.lookup(declared).name == "utf-8" else _transcoded(chunks, declared)


def _without_start(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[size:]
        size = 0


def _transcoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    # Half of a surrogate pair, or a byte that is no character, becomes invalid UTF-8, so that it is a defect of its own
    # row and of no other.
    is_utf16 = codecs.lookup(encoding).name.startswith("utf-16")
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass" if is_utf16 else "surrogateescape")
    name, fault = "UTF-16" if is_utf16 else encoding, "is broken"
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        fault = "ends within a character"
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise DamagedContentError(f"{name} text {fault}") from error
