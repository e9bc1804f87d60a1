"""From which day on each layer keeps what it holds, by the contract. Dropping what is older is maintenance's."""

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from lakehouse.contracts.model import Contract

Layer = Literal["landing", "realtime", "bronze", "silver", "quarantine", "gold", "serving"]


def retention_days(contract: Contract, layer: Layer) -> int | None:
    """For how many days after a partition's date the layer keeps it; None is without limit.

    Quarantine is kept as bronze is, whose rows it explains; serving as gold is.
    """
    kept = contract.retention
    days: dict[Layer, int | None] = {
        "landing": kept.landing,
        "realtime": kept.realtime,
        "bronze": kept.bronze,
        "silver": kept.silver,
        "quarantine": kept.bronze,
        "gold": kept.gold,
        "serving": kept.gold,
    }
    return days[layer]


def first_kept_day(contract: Contract, layer: Layer, today: date | None = None) -> date | None:
    """The oldest day that the layer keeps; None when it keeps all.

    Days before silver's are never computed again: bronze may have let go of some of their rows.
    """
    days = retention_days(contract, layer)
    return None if days is None else (today or datetime.now(UTC).date()) - timedelta(days=days)
