"""Of a folder, data is selected, and everything else is named with its reason."""

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.errors import UnreadableSourceError
from lakehouse.landing.partition_folders import partition_folders
from lakehouse.landing.selection import MAX_NESTED_ARCHIVES, Selection, select_files

CSV = b"a,b\n1,2\n"

Select = Callable[[Path], Selection]


@pytest.fixture
def select(tmp_path_factory: pytest.TempPathFactory) -> Select:
    """Select the files that a path stands for."""
    return lambda path: select_files([path], tmp_path_factory.mktemp("scratch"))


def _zip(name: str, member: bytes = CSV) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, member)
    return content.getvalue()


def _tar(*members: tarfile.TarInfo | str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(CSV) if info.isfile() else 0
            archive.addfile(info, io.BytesIO(CSV) if info.isfile() else None)
    return content.getvalue()


def _link(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("link.csv")
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


FOREIGN = {
    "xlsx": _zip("[Content_Types].xml"),
    "ods": _zip("mimetype"),
    "zip without data": _zip("notes.md"),
    "zip with data outside": _zip("../a.csv"),
    "broken zip": _zip("a.csv")[:-9],
    "tar without data": _tar("notes.md"),
    "tar.gz with data outside": gzip.compress(_tar("a.csv", "../b.csv")),
    "tar.bz2 with a link outside": bz2.compress(_tar("a.csv", _link("../../../etc/passwd"))),
    "tar with two files of a name": _tar("a.csv", "./a.csv"),
    "broken tar": _tar("a.csv", "b.csv")[:1030],
    "tar without its end": _tar("a.csv", "b.csv")[:1024],
    "tars behind one another": _tar("a.csv") + _tar("b.csv"),
    "too many layers": gzip.compress(gzip.compress(gzip.compress(gzip.compress(CSV)))),
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04",
    "orc": b"ORC\x08\x03\x10",
    "avro": b"Obj\x01\x04\x14avro.codec",
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "pdf": b"%PDF-1.7\n",
    "html": b"\n<!DOCTYPE HTML><html>404",
    "xml": b'<?xml version="1.0"?><a/>',
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_content_is_refused_under_any_name(select: Select, tmp_path: Path, kind: str) -> None:
    names = ("a.csv", "a.json", "a.csv.gz", "part-0", "a.parquet")
    for name in names:
        (tmp_path / name).write_bytes(FOREIGN[kind])
    (tmp_path / "good.csv").write_bytes(CSV)
    selected = select(tmp_path)
    assert [file.name for file in selected.files] == ["good.csv"]
    assert {file.path.name for file in selected.refused} == set(names)
    assert all("; " in file.reason for file in selected.refused)


def test_parquet_under_the_name_of_another_format_is_refused(select: Select, tmp_path: Path) -> None:
    for name in ("a.csv", "a.json", "a.csv.gz", "part-0", "a.parquet"):
        (tmp_path / name).write_bytes(b"PAR1\x15\x04")
    selected = select(tmp_path)
    assert [file.name for file in selected.files] == ["a.parquet", "part-0"]
    assert {file.reason for file in selected.refused} == {"it is a Parquet file; give it a name that ends in .parquet"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        CSV,
        b"PK,b\n1,2\n",
        b"BZh9,b\n",
        b"ORC,b\n",
        b"PAR1,b\n",
        b"Obj,b\n",
        b"{}\n",
        b"PAR1",
        b"\xff\xfea\x00,\x00",
        gzip.compress(CSV),
        bz2.compress(CSV),
        lzma.compress(CSV),
        gzip.compress(bz2.compress(CSV)),
        b"%PDF",
    ],
)
def test_content_of_a_reader_is_selected(select: Select, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert select(tmp_path).files == select(tmp_path / "a.csv").files == [tmp_path / "a.csv"]


def test_everything_in_a_folder_is_selected_or_named_with_its_reason(select: Select, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    taken = [
        "a.csv",
        "b.CSV.GZ",
        "c/part-00000",
        "c/s-1-2011-10-04-08-00-00-0a1b2c3d-1111-2222-3333-444455556666.gz",
        "d.snappy.parquet",
        "year=2010/e.tsv",
    ]
    left_out = [
        ".hidden.csv", "._a.csv", "_SUCCESS", "a.csv.bak", "a.csv.crc", "a.csv~", "README", "notes.md", ".ipynb_checkpoints/a.csv",
        "_temporary/0/b.csv", "f.csv.tmp",
    ]  # fmt: skip
    for number, name in enumerate([*taken, *left_out]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"text\n" if name == "README" else CSV + b"%d,\n" % number)
    (folder / "gone.csv").symlink_to("nothing")
    (folder / "loop").symlink_to(folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "linked.csv").write_bytes(CSV)
    (folder / "link").symlink_to(other)
    (folder / "zlink").symlink_to(other)
    os.mkfifo(folder / "pipe.csv")
    selected = select(folder)
    assert {str(path.relative_to(folder)) for path in selected.files} == {*taken, "link/linked.csv"}
    named = {str(file.path.relative_to(folder)).split("/")[0] for file in selected.left_out}
    assert named == {name.split("/")[0] for name in left_out} | {"gone.csv", "zlink", "pipe.csv", "loop"}


@pytest.mark.parametrize(
    ("mark", "table"),
    [("_delta_log/0.json", "Delta"), (".hoodie/hoodie.properties", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
def test_table_folder_that_is_not_read_is_refused_by_name(
    select: Select, tmp_path: Path, mark: str, table: str
) -> None:
    folder = tmp_path / "above" / "table"
    part = folder / "dt=2020-01-01" / "part-0.csv"
    for path in (folder / mark, part):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CSV)
    (tmp_path / "good.csv").write_bytes(CSV)
    for path in (tmp_path, folder, part.parent, part):
        selected = select(path)
        assert selected.files == ([tmp_path / "good.csv"] if path == tmp_path else [])
        (refused,) = selected.refused
        subject = "it" if path in (tmp_path, folder) else str(folder)
        assert re.match(f"{subject} is an? {table} table.*;.* export", refused.reason)


def test_zip_archive_is_a_folder(select: Select, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for name in ("a.csv", "in/Country=France/b.csv.gz", "in/__MACOSX/a.csv", "in/c.csv.bak"):
            archive.writestr(name, gzip.compress(CSV) if name.endswith(".gz") else CSV)
        archive.writestr("in/d.xlsx", _zip("xl/a"))
        archive.writestr("in/e.zip", _zip("f.csv"))
    (tmp_path / "export.zip.gz").write_bytes(gzip.compress(_zip("a.csv")))
    selected = select(tmp_path)
    shown = [selected.display(path).removeprefix(f"{tmp_path}/") for path in selected.files]
    inside = ["a.csv", "in/Country=France/b.csv.gz", "in/e.zip/f.csv"]
    assert shown == [*(f"export.zip/{name}" for name in inside), "export.zip.gz/a.csv"]
    assert [path.read_bytes()[:2] for path in selected.files] == [b"a,", b"\x1f\x8b", b"a,", b"a,"]
    assert [file["file"] for file in selected.as_json(selected.left_out)] == [
        f"{tmp_path}/export.zip/in/__MACOSX",
        f"{tmp_path}/export.zip/in/c.csv.bak",
    ]
    assert [file.path.name for file in selected.refused] == ["d.xlsx"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tar_archive_is_a_folder(select: Select, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "export.tgz").write_bytes(compress(_tar("d/a.csv", "d/Country=France/b.csv", "d/._a.csv", _link("d"))))
    selected = select(tmp_path)
    shown = [selected.display(path).removeprefix(f"{tmp_path}/export.tgz/") for path in selected.files]
    assert shown == ["d/Country=France/b.csv", "d/a.csv"]
    assert [path.read_bytes() for path in selected.files] == [CSV, CSV]
    assert {path.path.name for path in selected.left_out} == {"._a.csv", "link.csv"}


def test_folder_above_an_archive_gives_its_rows_a_column(select: Select, tmp_path: Path) -> None:
    folder = tmp_path / "Country=C%C3%B4te d'Ivoire"
    folder.mkdir()
    (folder / "a.zip").write_bytes(_zip("a.csv"))
    (path,) = select(tmp_path).files
    assert partition_folders(path) == partition_folders(folder / "a.zip") == ["Country=C%C3%B4te%20d%27Ivoire"]


def test_archive_in_too_many_archives_is_refused(select: Select, tmp_path: Path) -> None:
    content = _zip("a.csv")
    for _ in range(MAX_NESTED_ARCHIVES):
        content = _zip("a.zip", content)
    (tmp_path / "a.zip").write_bytes(content)
    selected = select(tmp_path / "a.zip")
    assert selected.files == []
    innermost, *outer = selected.as_json(selected.refused)
    assert (innermost["file"], outer) == (f"{tmp_path}/{'a.zip/' * MAX_NESTED_ARCHIVES}a.zip", [])


@pytest.mark.parametrize("names", [["a.csv", "a.csv"], ["a.csv", "./a.csv"], ["/a.csv"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_archive_that_would_lose_a_file_is_refused(select: Select, tmp_path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), CSV)
    selected = select(tmp_path)
    assert selected.files == []
    assert [file.path.name for file in selected.refused] == ["a.zip"]


def test_archive_without_data_names_nothing_of_another_file(select: Select, tmp_path: Path) -> None:
    (tmp_path / "_hidden.csv").touch()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    assert "_hidden" not in select(tmp_path).refused[0].reason


def test_folder_without_data_is_an_error_with_a_reason(select: Select, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("text")
    with pytest.raises(UnreadableSourceError, match=r"holds no files to load .*notes\.md: \.md is no format"):
        select(tmp_path)


def test_name_that_is_not_utf8_is_selected_and_displayed(select: Select, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    path.write_bytes(CSV)
    selected = select(tmp_path)
    assert selected.files == [path]
    assert selected.display(path) == f"{tmp_path}/caf\\xe9.csv"


@pytest.mark.parametrize(
    "message", ["a.csv changed while it was loaded; load it again.", "Can't read a.csv: it is gone."]
)
def test_file_that_proves_unreadable_holds_up_no_other(message: str) -> None:
    bad, good, error = Path("a.csv"), Path("b.csv"), UnreadableSourceError(message)
    selection = Selection([bad, good])
    selection.refuse(bad, error)
    assert (selection.files, [file.path for file in selection.refused]) == ([good], [bad])
    assert message.endswith(f"{selection.refused[0].reason}.")
    assert "a.csv" not in selection.refused[0].reason
    with pytest.raises(UnreadableSourceError):
        Selection([bad]).refuse(bad, error)
