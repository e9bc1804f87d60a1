"""Drop the oldest months of the log. An entry names the last one that was dropped, so the chain stays whole."""

from datetime import UTC, datetime

from lakehouse.audit_log.chain import EXPIRED, oldest_kept_month
from lakehouse.audit_log.entries import Entry, Event
from lakehouse.audit_log.log import AuditLog, segments
from lakehouse.settings import Settings


def expire_entries(settings: Settings, *, dry_run: bool = False) -> list[str]:
    """Drop the months that are older than the settings keep, and return them. Safe to repeat after a kill.

    The newest file stays, because the chain continues from it. A file that was changed stays, too: it is evidence.
    """
    oldest = oldest_kept_month(datetime.now(UTC).date(), settings.audit_log_days)
    old = [path for path in segments(settings)[:-1] if path.stem < oldest]
    if not old or dry_run:
        return [path.stem for path in old]
    lines = old[-1].read_bytes().split(b"\n")[:-1]
    try:
        last = Entry.parse(lines[-1])
    except (IndexError, ValueError):
        return []
    detail = {"months": [path.stem for path in old], "number": last.number, "hash": last.hash}
    AuditLog(settings).write(Event("lakehouse", EXPIRED, "audit_log", detail))
    for path in old:
        path.unlink(missing_ok=True)
    return [path.stem for path in old]
