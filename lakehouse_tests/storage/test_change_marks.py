"""Change marks: each reader sees each mark once, whichever process set it."""

from pathlib import Path

from lakehouse.storage.iceberg.change_marks import ChangeMarks


def test_mark_is_seen_once_by_each_reader(tmp_path: Path) -> None:
    first, second = ChangeMarks(tmp_path / "tables"), ChangeMarks(tmp_path / "tables")
    assert first.poll() == set()
    second.mark("silver.retail")
    second.mark("gold.retail_daily")
    assert first.poll() == {"silver.retail", "gold.retail_daily"}
    assert first.poll() == set()
    assert second.poll() == {"silver.retail", "gold.retail_daily"}


def test_mark_right_after_a_poll_is_seen_by_the_next(tmp_path: Path) -> None:
    marks = ChangeMarks(tmp_path)
    for _ in range(200):  # many within one tick of the file system's clock
        marks.mark("silver.retail")
        assert marks.poll() == {"silver.retail"}


def test_unwritable_folder_raises_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    marks = ChangeMarks(tmp_path / "file" / "tables")
    marks.mark("silver.retail")
    assert marks.poll() == set()
