"""Restore a home from a backup, into a folder that holds none."""

import shutil
from pathlib import Path

from lakehouse.errors import LakehouseError
from lakehouse.maintenance.backup_store import BackupStore, Moment
from lakehouse.processes.home import HOME_MODE, check_version
from lakehouse.settings import Settings


def restore(settings: Settings, place: str, *, at: str | None = None) -> Moment:
    """Write the home as the newest backup has it, or the newest that was taken at or before `at`.

    `at` is the beginning of a name that `BackupStore.moments` lists, such as `2026-11-28`, or the whole of it. The home
    appears when it is whole. Raises LakehouseError if there is no such backup, if it is damaged, if the home is not empty, or if
    a newer release made the backup.
    """
    home = settings.root.resolve()
    if home.exists() and any(home.iterdir()):
        raise LakehouseError(f"{home} is not empty. Set LAKEHOUSE_HOME to a new folder to restore into.")
    store = BackupStore.open(place)
    moment = store.moment(_choose(store, at))
    if moment.bucket != settings.bucket:
        raise LakehouseError(
            f"The backup is of bucket {moment.bucket!r} and LAKEHOUSE_BUCKET is {settings.bucket!r}. Set it to the former."
        )
    partial = home.with_name(home.name + ".restoring")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=HOME_MODE, parents=True)
    try:
        _write(store, moment, partial)
        check_version(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if home.exists():
        home.rmdir()
    partial.rename(home)
    return moment


def _write(store: BackupStore, moment: Moment, folder: Path) -> None:
    for file in moment.files:
        path = _inside(folder, file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as content:
            content.writelines(store.read_chunks(file))
        path.chmod(0o600)


def _choose(store: BackupStore, at: str | None) -> str:
    names = [name for name in store.moments() if at is None or name[: len(at)] <= at]
    if not names:
        before = f" at or before {at}" if at else ""
        raise LakehouseError(
            f"There is no backup{before} in {store.place}. `lakehouse restore PLACE --list` lists them."
        )
    return names[-1]


def _inside(folder: Path, name: str) -> Path:
    """Return a path below `folder`. Raises LakehouseError for a name that leads out of it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise LakehouseError(f"The backup names the file {name!r}, which is outside of a home.")
    return path
