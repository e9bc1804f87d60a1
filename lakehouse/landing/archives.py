"""Unpack zip archives. What is in them is chosen by `selection`, as in any folder."""

import lzma
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath


def unpack_zip(archive: Path, folder: Path) -> str | None:
    """Unpack a zip archive whole into a new folder. Returns why it can't be; the folder is empty then.

    A member can't be written outside the folder or over another one.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as content:
            if reason := _reason_by_directory(content, folder):
                return f"it is a zip archive {reason}; unpack it and load what is in it"
            content.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        shutil.rmtree(folder)
        folder.mkdir()
        return f"it is a zip archive that can't be unpacked ({error}); unpack it and load what is in it"
    return None


def _reason_by_directory(content: zipfile.ZipFile, folder: Path) -> str | None:
    members = content.infolist()
    names = [PurePosixPath(member.filename) for member in members]
    if odd := next((name for name in names if name.is_absolute() or ".." in name.parts), None):
        return f"with a name outside of it, {odd}"
    if len(set(names)) < len(names):
        return "in which two files have the same name"
    size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if size > free:
        return f"of {size:,} bytes, for which {folder.anchor} has no room ({free:,} bytes are free)"
    return None
