"""A folder that is dropped under `incoming/` gives the files and the notes that it gives when it is loaded."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.landing.incoming import is_left_out, select_incoming
from lakehouse.landing.left_out import MAX_NAMED_OBJECTS, group_by_reason, unknown_folder
from lakehouse.landing.selection import select_files
from lakehouse.landing.upload import incoming_key
from lakehouse.storage.objects.store import ObjectInfo, Objects

CSV = b"a,b\n1,2\n"

FOLDERS = st.sampled_from(
    ["f", "2026", "Country=France", "_x=1", "g.v1", ".git", "_temporary", ".ipynb_checkpoints", "_spark_metadata"]
)
FILES = st.sampled_from(
    [
        *("a.csv", "B.CSV.GZ", "part-00000", "c.snappy.parquet", "s-1-2026-11-20-14-00-00-0a1b2c3d-1111-2222", "d.zst"),
        *("my.stream-1-2026-11-20-14-00-00-0a1b2c3d-1111-2222-3333-444455556666", "caf\udce9.csv", "é ü.json"),
        *(".a.csv", "._a.csv", "_SUCCESS", "a.csv.bak", "a.csv.crc", "a.csv~", "a.csv.tmp", "a.csv._COPYING_"),
        *("notes.md", "x.log", "a.csv (1)"),
    ]
)
MARKS = st.sampled_from(["_delta_log/0.json", ".hoodie/h.properties", "metadata/v1.metadata.json", "metadata/v1.json"])
PATHS = st.builds(lambda above, name: "/".join([*above, name]), st.lists(FOLDERS, max_size=3), FILES | FILES | MARKS)


class _Listed:
    """Objects of which only listings are asked."""

    def __init__(self, keys: list[str]) -> None:
        self._keys = sorted(keys)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return (ObjectInfo(key, len(CSV), datetime.now(UTC), "") for key in self._keys if key.startswith(f"{prefix}/"))


@given(st.sets(PATHS, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_folder_is_selected_alike_whether_loaded_or_dropped(names: set[str]) -> None:
    with TemporaryDirectory() as scratch, TemporaryDirectory() as opened:
        folder = Path(scratch) / "stream"
        for name in [*names, "z/z.csv"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(CSV)
        loaded = select_files([folder], Path(opened))
        keys = [f"incoming/stream/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()]
        objects = cast("Objects", _Listed(keys))
        dropped = select_incoming(objects, "stream")
        skipped = {file.path: file.reason for file in (*loaded.left_out, *loaded.refused)}
    assert {file.key.removeprefix("incoming/stream/") for file in dropped.files} == {
        str(path.relative_to(folder)) for path in loaded.files
    }
    assert {key.removeprefix("incoming/").rstrip("/"): _kind(reason) for key, reason in dropped.left_out.items()} == {
        str(path.relative_to(scratch)): _kind(reason) for path, reason in skipped.items()
    }
    taken = {file.key for file in dropped.files}
    assert [key for key in keys if not is_left_out(objects, key)] == [key for key in keys if key in taken]


def _kind(reason: str) -> str:
    """Return a reason without what to do, which depends on the road, and without why a table can't be opened."""
    return reason.split(";")[0].split(", and it can't be opened")[0].split(", whose files also")[0]


@pytest.mark.parametrize("above", ["", "_delta_log/", ".hidden/"])
def test_loaded_file_is_data_whatever_its_folders(tmp_path: Path, above: str) -> None:
    key = incoming_key("stream", tmp_path / ".x=1" / "a.csv.gz", "0a" * 32)
    objects = cast("Objects", _Listed([key, f"incoming/stream/{above}b.csv"]))
    assert key in {file.key for file in select_incoming(objects, "stream").files}
    assert not is_left_out(objects, key)


@pytest.mark.parametrize("key", ["incoming/stream//x.csv", "incoming/stream/../x.csv", "incoming/stream/./a\tb.csv"])
def test_odd_key_is_data(key: str) -> None:
    assert [file.key for file in select_incoming(cast("Objects", _Listed([key])), "stream").files] == [key]


def test_report_counts_by_reason_and_names_few() -> None:
    left_out: dict[str, Any] = {f"incoming/stream/{number}.bak": "a copy" for number in range(100)}
    entries = group_by_reason("stream", left_out | {"incoming/stream/_x/": "hidden"})
    assert [(entry.count, len(entry.objects)) for entry in entries] == [(100, MAX_NAMED_OBJECTS), (1, 1)]
    assert [entry.summary for entry in [*entries, unknown_folder("incoming/other", ["stream"])]] == [
        "incoming/stream/: 100 are left out: a copy",
        "incoming/stream/: 1 is left out: hidden",
        "incoming/other/: it is left out: it is not the folder of a stream; the streams are stream",
    ]
