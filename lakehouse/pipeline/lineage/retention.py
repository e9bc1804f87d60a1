"""How long each layer keeps its partitions, by the contract. See `maintenance.retention` for dropping what is older."""

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from lakehouse.contracts.model import Contract

Layer = Literal["landing", "realtime", "bronze", "silver", "quarantine", "gold", "serving"]


def retention_days(contract: Contract, layer: Layer) -> int | None:
    """Return the number of days after its date that the layer keeps a partition, or None if it keeps it for ever.

    Quarantine is kept as long as bronze, whose rows it explains, and serving as long as gold.
    """
    retention = contract.retention
    days: dict[Layer, int | None] = {
        "landing": retention.landing,
        "realtime": retention.realtime,
        "bronze": retention.bronze,
        "silver": retention.silver,
        "quarantine": retention.bronze,
        "gold": retention.gold,
        "serving": retention.gold,
    }
    return days[layer]


def first_kept_day(contract: Contract, layer: Layer, today: date | None = None) -> date | None:
    """Return the oldest day that the layer keeps, or None if it keeps all.

    Days before silver's are never computed again, because bronze may have dropped some of their rows.
    """
    days = retention_days(contract, layer)
    return None if days is None else (today or datetime.now(UTC).date()) - timedelta(days=days)


def is_expired(contract: Contract, layer: Layer, day: date) -> bool:
    """Return whether a day is older than the layer keeps."""
    first = first_kept_day(contract, layer)
    return first is not None and day < first
