"""Marks of what has changed: each is seen once by each who looks, whoever made it."""

from pathlib import Path

from lakehouse.storage.iceberg.change_marks import ChangeMarks


def test_a_mark_is_seen_once_by_each_who_looks(tmp_path: Path) -> None:
    mine, theirs = ChangeMarks(tmp_path / "tables"), ChangeMarks(tmp_path / "tables")
    assert mine.poll() == set()
    theirs.mark("silver.retail")
    theirs.mark("gold.retail_daily")
    assert mine.poll() == {"silver.retail", "gold.retail_daily"}
    assert mine.poll() == set()
    assert theirs.poll() == {"silver.retail", "gold.retail_daily"}


def test_a_mark_right_after_a_look_is_seen_by_the_next(tmp_path: Path) -> None:
    changes = ChangeMarks(tmp_path)
    for _ in range(200):  # many within one tick of the file system's clock
        changes.mark("silver.retail")
        assert changes.poll() == {"silver.retail"}


def test_a_home_that_can_not_be_written_to_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    changes = ChangeMarks(tmp_path / "file" / "tables")
    changes.mark("silver.retail")
    assert changes.poll() == set()
