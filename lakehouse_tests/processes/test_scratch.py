"""Temporary files go with the process that owns them."""

import os
import subprocess
import sys
import time
from pathlib import Path

from lakehouse.processes.scratch import UNOWNED_SECONDS, own_folder


def test_folders_of_ended_processes_are_removed(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from lakehouse.processes.scratch import own_folder; "
    command = [sys.executable, "-c", f"{script}print(own_folder(Path(sys.argv[1])))", str(tmp_path)]
    ended = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    (ended / "spill-1").mkdir()
    (ended / "spill-1" / "block").write_bytes(b"spilled")
    own = own_folder(tmp_path)
    (own / "kept").write_bytes(b"")
    assert own_folder(tmp_path) == own
    assert [*tmp_path.iterdir()] == [own]
    assert (own / "kept").exists()


def test_folder_without_owner_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new, other = tmp_path / "spill-a", tmp_path / "spill-b", tmp_path / "notes-of-mine"
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "block").write_bytes(b"")
    past = time.time() - UNOWNED_SECONDS - 1
    os.utime(old, (past, past))
    os.utime(other, (past, past))
    own = own_folder(tmp_path)
    assert {*tmp_path.iterdir()} == {own, new, other}
