"""What a snapshot says of the partitions it wrote; which snapshots of a table may go, and letting them go. What they say
that is still needed is carried by the caller.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertRefSnapshotId
from pyiceberg.table.update.snapshot import ExpireSnapshots

from lakehouse.storage.iceberg.errors import UNANSWERED

EPOCH = date(1970, 1, 1)
"""Iceberg keeps a date as a number of days since then."""

EXPIRE_AT_LEAST = 12
"""Fewer are not worth a commit of their own."""

EXPIRE_AT_MOST = 100
"""At once: a commit that drops 877 took 33 s, 100 take less than one."""

_DAY_MS = 24 * 3600 * 1000


def ledger(snapshot: Snapshot) -> dict[str, Any]:
    """What a snapshot's summary says of each partition it wrote, by the partition's name."""
    text = snapshot.summary.additional_properties.get("lakehouse.ledger") if snapshot.summary else None
    return dict(json.loads(text)) if text else {}


def expirable(
    table: Table, kept: int, *, days: int = 0, at_least: int | None = None, now: datetime | None = None
) -> list[Snapshot]:
    """The oldest snapshots that may go, once there are enough of them to be worth a commit, at most 100.

    The newest `kept` stay; the last one of each of the past `days` days (UTC) stays for time travel; and so does what a
    branch or a tag refers to.
    """
    snapshots = sorted(table.metadata.snapshots, key=lambda s: (s.timestamp_ms, s.sequence_number or 0))
    protected = {ref.snapshot_id for ref in table.metadata.refs.values()}
    if days:
        since = ((now or datetime.now(UTC)) - timedelta(days=days)).timestamp() * 1000
        last_of_day = {s.timestamp_ms // _DAY_MS: s.snapshot_id for s in snapshots if s.timestamp_ms >= since}
        protected |= set(last_of_day.values())
    old = [s for s in snapshots[: max(0, len(snapshots) - kept)] if s.snapshot_id not in protected]
    enough = EXPIRE_AT_LEAST if at_least is None else at_least
    return old[:EXPIRE_AT_MOST] if len(old) >= enough else []


def expire(table: Table, old: Sequence[Snapshot], properties: Mapping[str, str]) -> bool:
    """Drop these snapshots and set properties of the table, in one commit; False when another commit was in between.

    Their files stay until they are looked for as orphans: who began to read an expired snapshot can finish.
    """
    current = table.current_snapshot()
    with_properties = table.transaction()
    if properties:
        with_properties.set_properties(dict(properties))
    expiring = ExpireSnapshots(transaction=with_properties)
    expiring.by_ids([snapshot.snapshot_id for snapshot in old])
    # What is carried was read from this version of the table: a newer one may say more.
    expiring._requirements += (AssertRefSnapshotId(ref="main", snapshot_id=current.snapshot_id if current else None),)
    try:
        expiring.commit()
        with_properties.commit_transaction()
    except (CommitFailedException, *UNANSWERED):
        return False  # whichever happened, the table is whole; the next commit tries again
    return True
