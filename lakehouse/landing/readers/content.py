"""An object's bytes decompressed, in UTF-8, without a byte order mark. What they mean is not known here."""

import codecs
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from lakehouse.errors import SourceChangedError
from lakehouse.landing.readers.source import Readable, Source

CHUNK = 4 << 20
"""Bytes read at once."""

_STEP = 64 << 10
"""Bytes decompressed at once; of those before a corrupt one none is lost."""

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class Damage(Exception):  # noqa: N818 (it never leaves this package: it ends in a defect row)
    """The rest of an object cannot be read; what came before it can."""


def stored(source: Source) -> Iterator[bytes]:
    """The object's bytes as stored. Raises SourceChangedError when there are fewer or more than its listing said."""
    opened, seen = source.open(), 0
    try:
        while chunk := read(opened, CHUNK):
            seen += len(chunk)
            yield chunk
    finally:
        opened.close()
    if seen != source.size:
        raise SourceChangedError(
            f"{source.name}: {source.size} bytes were listed and {seen} read;"
            " load it again when its writer has finished"
        )


def read(opened: Readable, size: int) -> bytes:
    """At most `size` bytes; none at the end."""
    return bytes(memoryview(opened.read(size)))  # type: ignore[arg-type]


def plain(source: Source) -> Iterator[bytes]:
    """The object's text in UTF-8, in pieces. Raises Damage where its compression breaks off."""
    yield from _decoded(unpacked(source))


def unpacked(source: Source) -> Iterator[bytes]:
    """The object's bytes without their compression, which shows in the first of them. Raises Damage like `plain`."""
    return _decompressed(stored(source))


def _start(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all of them again."""
    start = b""
    try:
        for chunk in chunks:
            start += chunk
            if len(start) >= size:
                break
    except Damage as damage:
        chunks = _raising(damage)
    return start, chain([start] if start else [], chunks)


def _raising(damage: Damage) -> Iterator[bytes]:
    raise damage
    yield b""


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    start, chunks = _start(chunks, 4)
    if start.startswith(GZIP):
        return _gunzipped(chunks)
    if start.startswith(ZSTD):
        return _unzstd(chunks)
    return chunks


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Members one after another (RFC 1952), padded with zeros at most."""
    member, seen = zlib.decompressobj(wbits=31), 0
    for chunk in chunks:
        for start in range(0, len(chunk), _STEP):
            rest = chunk[start : start + _STEP]
            seen += len(rest)
            while rest:
                if member.eof:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    member = zlib.decompressobj(wbits=31)
                before = member.copy()
                try:
                    yield member.decompress(rest, CHUNK)
                except zlib.error as problem:
                    sound = _sound_part(before, rest)
                    yield sound.text
                    at = seen - len(rest) + sound.size
                    raise Damage(f"gzip stream is corrupt after {at} bytes: {problem}") from problem
                rest = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise Damage(f"gzip stream ends early after {seen} bytes")


@dataclass(frozen=True, slots=True)
class _Part:
    text: bytes
    size: int


def _sound_part(member: "zlib._Decompress", data: bytes) -> _Part:
    """What can be had of data that is corrupt somewhere, a byte at a time."""
    texts: list[bytes] = []
    for i in range(len(data)):
        try:
            texts.append(member.decompress(data[i : i + 1]))
        except zlib.error:
            return _Part(b"".join(texts), i)
    return _Part(b"".join(texts), len(data))


class _Stream(io.RawIOBase):
    """Chunks as a file, for a decompressor that wants one."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self.seen = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        part, self._rest = self._rest[:size], self._rest[size:]
        self.seen += len(part)
        return part


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    stream = _Stream(chunks)
    with pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd") as opened:
        while True:
            try:
                piece = opened.read(CHUNK)
            except OSError as problem:
                early = "truncated" in str(problem).lower()
                how = "ends early" if early else "is corrupt"
                detail = "" if early else f": {problem}"
                raise Damage(f"zstd stream {how} after {stream.seen} bytes{detail}") from problem
            if not piece:
                return
            yield piece


def _decoded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    start, chunks = _start(chunks, 4)
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if start.startswith(mark):
            return _transcoded(_without(chunks, len(mark)), encoding)
    return _without(chunks, len(codecs.BOM_UTF8)) if start.startswith(codecs.BOM_UTF8) else chunks


def _without(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[size:]
        size = 0


def _transcoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    # A half of a surrogate pair becomes invalid UTF-8 here, so that it is a defect of its own row and no more.
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    try:
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as problem:
        raise Damage("UTF-16 text ends within a character") from problem
