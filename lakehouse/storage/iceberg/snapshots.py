"""Snapshots of a table: the ledger in their summary, and expiry. The caller carries over what is needed of expired ones."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertRefSnapshotId
from pyiceberg.table.update.snapshot import ExpireSnapshots

from lakehouse.storage.iceberg.errors import UNAVAILABLE_ERRORS

MIN_SNAPSHOTS_TO_EXPIRE = 12
"""Fewer are not worth a commit."""

MAX_SNAPSHOTS_TO_EXPIRE = 100
"""A commit that drops 877 snapshots took 33 s, one that drops 100 less than one."""

_DAY_MS = 24 * 3600 * 1000


_COMMIT_ERRORS: tuple[type[Exception], ...] = (CommitFailedException, *UNAVAILABLE_ERRORS)


def sequence_of(table: Table) -> int:
    """Return the sequence number of the table's newest snapshot, or 0 if it has none."""
    snapshot = table.current_snapshot()
    return (snapshot.sequence_number or 0) if snapshot else 0


def history(table: Table) -> list[Snapshot]:
    """List the snapshots that led to the current one, oldest first. Those of a branch, or that a rollback undid, are not."""
    snapshots = sorted(table.metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0, reverse=True)
    known = {snapshot.snapshot_id for snapshot in snapshots}
    child = table.metadata.current_snapshot_id
    steps: list[Snapshot] = []
    for snapshot in snapshots:
        # Where expiry has cut the chain, the next older snapshot counts as the parent.
        if snapshot.snapshot_id == child or (steps and child not in known):
            steps.append(snapshot)
            child = snapshot.parent_snapshot_id
    return steps[::-1]


def undone(table: Table) -> list[tuple[Snapshot, int]]:
    """List the snapshots outside the `history`, each with the sequence number of the step of the history before it."""
    steps = [snapshot.sequence_number or 0 for snapshot in history(table)]
    others = [snapshot for snapshot in table.metadata.snapshots if snapshot.sequence_number not in steps]
    return [
        (snapshot, max((step for step in steps if step < (snapshot.sequence_number or 0)), default=0))
        for snapshot in others
    ]


def ledger(snapshot: Snapshot) -> dict[str, Any]:
    """Return the row counts in a snapshot's summary, by the name of each partition that it wrote."""
    text = snapshot.summary.additional_properties.get("lakehouse.ledger") if snapshot.summary else None
    return dict(json.loads(text)) if text else {}


def expirable(
    table: Table, kept: int, *, days: int = 0, at_least: int | None = None, now: datetime | None = None
) -> list[Snapshot]:
    """List the oldest snapshots that can be expired, at most 100; none if there are fewer than `at_least`.

    The newest `kept` stay, the last one of each of the past `days` days (UTC) stays for time travel, and so do those that
    a branch or tag refers to.
    """
    snapshots = sorted(table.metadata.snapshots, key=lambda s: (s.timestamp_ms, s.sequence_number or 0))
    protected = {ref.snapshot_id for ref in table.metadata.refs.values()}
    if days:
        since_ms = ((now or datetime.now(UTC)) - timedelta(days=days)).timestamp() * 1000
        last_of_day = {s.timestamp_ms // _DAY_MS: s.snapshot_id for s in snapshots if s.timestamp_ms >= since_ms}
        protected |= set(last_of_day.values())
    old = [s for s in snapshots[: max(0, len(snapshots) - kept)] if s.snapshot_id not in protected]
    enough = MIN_SNAPSHOTS_TO_EXPIRE if at_least is None else at_least
    return old[:MAX_SNAPSHOTS_TO_EXPIRE] if len(old) >= enough else []


def expire(table: Table, old: Sequence[Snapshot], properties: Mapping[str, str]) -> bool:
    """Drop snapshots and set table properties in one commit. Returns False if another commit was first.

    Their files stay until they are removed as orphans, so that running readers of an expired snapshot can finish.
    """
    current = table.current_snapshot()
    transaction = table.transaction()
    if properties:
        transaction.set_properties(dict(properties))
    expiry = ExpireSnapshots(transaction=transaction)
    expiry.by_ids([snapshot.snapshot_id for snapshot in old])
    # Required because the properties were read from this version of the table; a newer one may need others.
    expiry._requirements += (AssertRefSnapshotId(ref="main", snapshot_id=current.snapshot_id if current else None),)
    try:
        expiry.commit()
        transaction.commit_transaction()
    except _COMMIT_ERRORS:
        return False  # the table is intact either way, and the next commit tries again
    return True
