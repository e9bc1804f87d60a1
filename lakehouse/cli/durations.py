"""Durations as people type them."""

from datetime import timedelta

import typer


def seconds(duration: str) -> float | None:
    """A duration such as `30s` or `5m` in seconds; None for `infinite`. Raises typer.BadParameter."""
    if duration == "infinite":
        return None
    units = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    number = duration.rstrip("msdh")
    unit = units.get(duration[len(number) :])
    try:
        if unit is not None and float(number) > 0:
            return timedelta(**{unit: float(number)}).total_seconds()
    except (ValueError, OverflowError):
        pass
    raise typer.BadParameter(f"{duration!r} is no duration; write one such as 30s, 5m, 2h or infinite")
