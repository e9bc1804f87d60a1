import bz2
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.errors import SourceChangedError
from lakehouse.landing.readers import InputObject, local_object
from lakehouse_tests.landing.readers.samples import ARRIVED, EVENT, THREE, RowTuple, object_of, rows_of, table_of

ROWS = [(str(i), f"name {i * 7919 % 65537}", f"{i}.5") for i in range(3000)]
CSV = b"ID,name,price\n" + "".join(f"{','.join(row)}\n" for row in ROWS).encode()
JSON = b"".join(b'{"id":"%d"}\n' % i for i in range(3000))
EVENTS: list[RowTuple] = [(str(i), None, None, None, None, None) for i in range(3000)]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_bytes_of_a_file_name_that_are_not_utf8_are_escaped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / os.fsdecode(b"\xff" + suffix.encode())
    path.write_bytes(b"ID\n1\n" if suffix == ".csv" else b'{"id":"1"}\n')
    assert table_of(THREE, local_object(path))["_object"].to_pylist() == [rf"\xff{suffix}"]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x", "x.gz", "x.TXT.zst", "x.csv.bz2", "x.xz"])
@pytest.mark.parametrize(
    "pack",
    [lambda data: data, gzip.compress, zstd, bz2.compress, lzma.compress, lambda data: zstd(bz2.compress(data))],
    ids=["plain", "gzip", "zstd", "bzip2", "xz", "twice"],
)
def test_compression_is_detected_whatever_the_name(name: str, pack: "type[bytes]") -> None:
    assert rows_of(THREE, object_of(pack(CSV), name)) == ROWS


def test_streams_that_follow_one_another_are_joined() -> None:
    half = CSV.index(b"\n", 20_000) + 1
    for pack in (gzip.compress, zstd, bz2.compress, lzma.compress):
        data = pack(CSV[:half]) + pack(CSV[half:])
        assert rows_of(THREE, object_of(data, "x.csv")) == ROWS
    padded = gzip.compress(CSV[:half]) + gzip.compress(CSV[half:]) + b"\0" * 512
    assert rows_of(THREE, object_of(padded, "x.csv")) == ROWS


@pytest.mark.parametrize(("name", "data", "rows"), [("x.csv.gz", CSV, ROWS), ("x.json.gz", JSON, EVENTS)])
def test_rows_before_gzip_truncation_are_kept(name: str, data: bytes, rows: list[RowTuple]) -> None:
    packed = gzip.compress(data)
    cut = len(packed) * 2 // 3
    read = rows_of(THREE if "csv" in name else EVENT, object_of(packed[:cut], name))
    assert 500 < len(read) < 3000
    assert read[:-1] == rows[: len(read) - 1]
    mark, reason, raw = read[-1]
    assert (mark, reason) == ("!", f"gzip stream ends early after {cut} bytes")
    assert raw is None or data.splitlines()[len(read) - 1 + ("csv" in name)].startswith(raw.encode())


def test_truncated_zstd_ends_in_a_defect() -> None:
    packed = zstd(CSV)
    rows = rows_of(THREE, object_of(packed[: len(packed) // 2], "x.csv"))
    assert rows[:-1] == ROWS[: len(rows) - 1]
    assert rows[-1][:2] == ("!", f"zstd stream ends early after {len(packed) // 2} bytes")


def test_corrupt_gzip_ends_in_a_defect() -> None:
    packed = bytearray(gzip.compress(CSV))
    packed[len(packed) // 2] ^= 0xFF
    rows = rows_of(THREE, object_of(bytes(packed), "x.csv"))
    assert rows[-1][0] == "!"
    assert rows[-1][1].startswith("gzip stream is corrupt after")
    tail = rows_of(THREE, object_of(gzip.compress(CSV) + b"and more", "x.csv"))
    assert tail[:-1] == ROWS
    assert tail[-1][1].startswith("gzip stream is corrupt after ")


@pytest.mark.parametrize(("name", "pack"), [("bzip2", bz2.compress), ("xz", lzma.compress)])
def test_damaged_bzip2_and_xz_end_in_a_defect(name: str, pack: "type[bytes]") -> None:
    packed = pack(CSV)
    for damaged, reason in (
        (packed[: len(packed) * 2 // 3], "ends early"),
        (packed[:-40] + b"\xff" * 40, "is corrupt"),
        (packed + b"and more after it", "is corrupt"),
    ):
        found = rows_of(THREE, object_of(damaged, "x.csv"))
        assert found[:-1] == ROWS[: len(found) - 1]
        assert found[-1][0] == "!"
        assert found[-1][1].startswith(f"{name} stream {reason} after ")


def test_file_that_is_no_rows_is_one_defect_where_files_are_dropped() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("a.csv", CSV)
    for name in ("a.csv", "a.zip", "b.json"):
        source = object_of(archive.getvalue(), f"incoming/sample/{name}")
        reason = "the file is a zip archive; load it with `lakehouse load`, or unpack it and load what is in it"
        assert rows_of(THREE, source, object_of(CSV, "incoming/sample/c.csv")) == [("!", reason, None), *ROWS]


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 9])
def test_stream_that_breaks_off_at_once_is_at_most_one_row(cut: int) -> None:
    rows = rows_of(THREE, object_of(gzip.compress(CSV)[:cut], "x.csv.gz"))
    assert len(rows) == (0 if cut == 0 else 1)
    assert all(row[0] == "!" for row in rows)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_byte_order_mark_decodes_wide_text(encoding: str) -> None:
    text = "\ufeffID,name,price\n1,é😀,2\n" * 1
    assert rows_of(THREE, object_of(text.encode(encoding), "x.csv")) == [("1", "é😀", "2")]
    line = '\ufeff{"id":"é😀"}\n'
    assert rows_of(EVENT, object_of(line.encode(encoding), "x.json")) == [("é😀", *[None] * 5)]


def test_broken_utf_16_loses_one_row() -> None:
    data = "\ufeffID,name,price\n1,\ud800x,2\n3,b,4\n".encode("utf-16-le", "surrogatepass")
    rows = rows_of(THREE, object_of(data, "x.csv"))
    assert [row[0] for row in rows] == ["!", "3"]
    assert rows[0][1] == "invalid UTF-8 at byte 3 of the row"
    torn = rows_of(THREE, object_of(data[:-1], "x.csv"))
    assert torn[1] == ("!", "UTF-16 text ends within a character", "3,b,4")


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b'\n {"id":"1"}', [("1", None, None)]),
        (b'[{"id":"1"}]', [("1", None, None)]),
        (b"ID,name\n1,a", [("1", "a", None)]),
        (b"", []),
    ],
)
def test_format_without_suffix_is_detected_by_content(data: bytes, rows: list[RowTuple]) -> None:
    assert rows_of(THREE, object_of(data, "part-0001")) == rows


@pytest.mark.parametrize("listed", [len(CSV) - 1, len(CSV) + 1, 10 << 20])
def test_object_of_another_size_than_listed_is_refused(listed: int) -> None:
    source = InputObject("x.csv", ARRIVED, listed, lambda: io.BytesIO(CSV))
    with pytest.raises(SourceChangedError, match=f"x.csv: {listed} bytes were listed and {len(CSV)} read"):
        rows_of(THREE, source)
