"""Repair the volume files of a server that was stopped halfway, before it starts again.

A volume is a file of needles (`.dat`) and an index of them (`.idx`). After a power cut, either may lack its end. SeaweedFS
leaves a volume out whose index ends within an entry, and cuts off needles that are not in the index.
See https://github.com/seaweedfs/seaweedfs/wiki/Components and weed/storage/needle for the formats.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_ENTRY = struct.Struct(">QIBi")
"""Needle id, offset (low four bytes, then the fifth) in units of eight bytes, and size. A deletion has size -1."""

_HEADER = struct.Struct(">IQi")
"""Cookie, needle id and size of the body. A deletion has size 0."""

_ALIGNMENT = 8
_TRAILER_BYTES = 12
"""A checksum and a time after the body."""

_TIME_BYTES = 8
_BODY_BYTES = 5
"""Bytes of the body besides the data: its size before it, flags after it."""

_VERSION = 3
_DELETED = -1


@dataclass(frozen=True, slots=True)
class _Needle:
    """An entry of the index."""

    id: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset of the next needle: each is padded by one to eight bytes."""
        length = _HEADER.size + max(self.size, 0) + _TRAILER_BYTES
        return self.offset + length + _ALIGNMENT - length % _ALIGNMENT

    def packed(self) -> bytes:
        """Return the entry as the index has it."""
        high, low = divmod(self.offset // _ALIGNMENT, 1 << 32)
        return _ENTRY.pack(self.id, low, high, self.size)


def repair_volumes(data: Path) -> list[str]:
    """Make each index whole: cut what is torn, and add the needles that it lacks. Returns a line for each repair."""
    repairs = [_repair(path, path.with_suffix(".idx")) for path in sorted(data.glob("*.dat"))]
    return [repair for repair in repairs if repair]


def _repair(volume: Path, index: Path) -> str | None:
    with ExitStack() as stack:
        dat = stack.enter_context(volume.open("r+b", buffering=0))
        idx = stack.enter_context(open(os.open(index, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0))
        start = _first_needle(dat)
        if start is None or _ends_with_last_entry(dat, idx):
            return None
        before = _size(idx)
        kept = _entries_on_disk(dat, idx)
        end = max((needle.end for needle in kept), default=start)
        added = [*_needles(dat, end)]
        end = max([end, *(needle.end for needle in added)])
        torn_bytes = max(_size(dat) - end, 0)
        if before == len(kept) * _ENTRY.size and not added and not torn_bytes:
            return None
        # The volume first: an index must not name what is not there.
        dat.truncate(min(end, _size(dat)))
        os.fsync(dat.fileno())
        idx.truncate(len(kept) * _ENTRY.size)
        idx.seek(0, os.SEEK_END)
        idx.write(b"".join(needle.packed() for needle in added))
        os.fsync(idx.fileno())
    volume.with_suffix(".sdx").unlink(missing_ok=True)  # made from the torn index
    cut = before - len(kept) * _ENTRY.size
    return (
        f"Repaired volume {volume.stem} after a stop halfway: {len(added)} objects added to its index, "
        f"{cut} torn bytes cut from its index and {torn_bytes} from its data."
    )


def _first_needle(dat: IO[bytes]) -> int | None:
    """Return the offset of the first needle; None for a file that is no volume of the known version."""
    head = os.pread(dat.fileno(), _ALIGNMENT, 0)
    if len(head) < _ALIGNMENT or head[0] != _VERSION:
        return None
    length = _ALIGNMENT + int.from_bytes(head[6:8], "big")
    return length + -length % _ALIGNMENT


def _ends_with_last_entry(dat: IO[bytes], idx: IO[bytes]) -> bool:
    """Return whether the index is whole, because its last entry is the last needle. Reads no more than these two."""
    size = _size(idx)
    if size == 0 or size % _ENTRY.size:
        return False
    last = _unpack(os.pread(idx.fileno(), _ENTRY.size, size - _ENTRY.size))
    return last.end == _size(dat) and _is_on_disk(dat, last)


def _entries_on_disk(dat: IO[bytes], idx: IO[bytes]) -> list[_Needle]:
    """Read the index up to its last entry whose needle is whole."""
    content = os.pread(idx.fileno(), _size(idx), 0)
    whole = len(content) // _ENTRY.size * _ENTRY.size
    entries = [_unpack(content[at : at + _ENTRY.size]) for at in range(0, whole, _ENTRY.size)]
    while entries and not _is_on_disk(dat, entries[-1]):
        entries.pop()
    return entries


def _is_on_disk(dat: IO[bytes], entry: _Needle) -> bool:
    needle = _needle_at(dat, entry.offset)
    if entry.size == _DELETED and entry.offset == 0:  # as old versions write deletions
        return True
    return needle == entry


def _needles(dat: IO[bytes], offset: int) -> Iterator[_Needle]:
    """Walk the whole needles from this offset on."""
    while needle := _needle_at(dat, offset):
        yield needle
        offset = needle.end


def _needle_at(dat: IO[bytes], offset: int) -> _Needle | None:
    """Read the needle at this offset; None if it is torn or none begins there."""
    head = os.pread(dat.fileno(), _HEADER.size + 4, offset)
    if len(head) < _HEADER.size + 4:
        return None
    _, needle_id, size = _HEADER.unpack(head[: _HEADER.size])
    data_size = int.from_bytes(head[_HEADER.size :], "big")
    needle = _Needle(needle_id, offset, size or _DELETED)
    is_sound = needle_id > 0 and size >= 0 and (size == 0 or data_size + _BODY_BYTES <= size)
    return needle if is_sound and needle.end <= _size(dat) and _has_time(dat, needle) else None


def _has_time(dat: IO[bytes], needle: _Needle) -> bool:
    """Return whether the needle's last field was written, because a torn file may go on with zeros."""
    time_at = needle.offset + _HEADER.size + max(needle.size, 0) + _TRAILER_BYTES - _TIME_BYTES
    return any(os.pread(dat.fileno(), _TIME_BYTES, time_at))


def _unpack(entry: bytes) -> _Needle:
    needle_id, low, high, size = _ENTRY.unpack(entry)
    return _Needle(needle_id, ((high << 32) | low) * _ALIGNMENT, size)


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size
