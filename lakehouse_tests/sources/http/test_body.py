"""Decompression takes time linear in the body, whatever its members, and ends at a deadline."""

import gzip
import os
import time
import zlib
from collections.abc import Callable

import pyarrow as pa
import pytest

from lakehouse.sources.http.body import MAX_GZIP_MEMBERS, _decompress_gzip, _decompress_zstd

LIMIT = 16 << 20
EMPTY = gzip.compress(b"")
NOISE = os.urandom(300_000)
Decompress = Callable[[bytes, int, float], bytes]


def _gzip(body: bytes, max_bytes: int = LIMIT, seconds: float = 60) -> bytes:
    return _decompress_gzip(body, max_bytes, time.monotonic() + seconds)


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        pytest.param(gzip.compress(NOISE), NOISE, id="one member"),
        pytest.param(gzip.compress(NOISE) + gzip.compress(b"a"), NOISE + b"a", id="two members"),
        pytest.param(gzip.compress(b"a") + b"\0" * 100_000 + gzip.compress(b"b") + b"\0", b"ab", id="padding"),
        pytest.param(EMPTY * 1000 + gzip.compress(b"a") + EMPTY, b"a", id="empty members"),
        pytest.param(gzip.compress(bytes(LIMIT * 2)), bytes(LIMIT), id="more than the limit"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_all_gzip_members_are_decompressed(body: bytes, plain: bytes) -> None:
    assert _gzip(body) == plain


@pytest.mark.parametrize("missing_bytes", range(1, len(gzip.compress(b"event"))))
def test_incomplete_gzip_member_is_an_error(missing_bytes: int) -> None:
    with pytest.raises(EOFError):
        _gzip(gzip.compress(b"event")[:-missing_bytes])


def test_gzip_members_are_limited() -> None:
    with pytest.raises(zlib.error, match="more than 65,536 members"):
        _gzip(EMPTY * (MAX_GZIP_MEMBERS + 1))


def test_time_is_linear_in_the_number_of_gzip_members() -> None:
    def cpu_seconds(members: int) -> float:
        started = time.process_time()
        _gzip(EMPTY * members)
        return time.process_time() - started

    cpu_seconds(100)
    assert cpu_seconds(40_000) < 10 * cpu_seconds(10_000)


@pytest.mark.parametrize(
    ("decompress", "body"),
    [
        pytest.param(_decompress_gzip, EMPTY * 100, id="gzip"),
        pytest.param(_decompress_zstd, pa.compress(NOISE, codec="zstd", asbytes=True), id="zstd"),
    ],
)
def test_decompression_ends_at_the_deadline(decompress: Decompress, body: bytes) -> None:
    with pytest.raises(TimeoutError):
        decompress(body, LIMIT, time.monotonic() - 1)
