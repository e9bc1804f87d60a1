"""Make series like those of machines, traffic and sales, and plant anomalies of ten kinds in them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from lakehouse.anomalies.nab import Labelled

PLANTED_KINDS = (
    "spike",
    "dip",
    "level_shift",
    "drift",
    "variance",
    "stuck",
    "silence",
    "season_break",
    "missing_peak",
    "pattern",
)

START = 1_735_689_600.0
"""2025-01-01, when every series begins."""

WINDOW_RATIO = 0.1
"""The windows of a series cover this share of its rows, as in NAB."""

Floats: TypeAlias = np.ndarray[Any, Any]
Random: TypeAlias = np.random.Generator


def planted_series(count: int, seed: int) -> Iterator[Labelled]:
    """Yield `count` series of each family in turn, with none to three anomalies each."""
    random = np.random.default_rng(seed)
    families = list(_FAMILIES)
    for number in range(count):
        family = families[number % len(families)]
        rows = int(random.choice([1600, 2500, 4032, 4032, 4032, 8000]))
        yield _plant(f"{family}_{number}", family, rows, random)


def _plant(name: str, family: str, rows: int, random: Random) -> Labelled:
    step, day_rows, make = _FAMILIES[family]
    values = make(np.arange(rows), random)
    count = int(random.choice([0, 1, 1, 2, 2, 3]))
    width = int(WINDOW_RATIO * rows / max(count, 1))
    first = rows // 4
    kept = np.ones(rows, np.bool_)
    windows, kinds = [], []
    for number in range(count):
        at = int(first + (rows - first - width) * (number + random.uniform(0.1, 0.9)) / count)
        length = int(max(20, random.uniform(0.3, 1) * width / 2))
        kind = str(random.choice(PLANTED_KINDS))
        if kind == "silence":
            kept[at : at + length] = False
        else:
            _ANOMALIES[kind](values, at, slice(at, min(rows, at + length)), day_rows, random)
        windows.append((max(0, at - width // 2), min(rows - 1, at + width // 2)))
        kinds.append(kind)
    position = np.maximum(np.cumsum(kept) - 1, 0)
    return Labelled(
        name,
        (START + np.arange(rows) * step)[kept],
        values[kept],
        [(int(position[left]), int(position[right])) for left, right in windows],
        kinds,
    )


def _flat(row: Floats, random: Random) -> Any:
    return 20 + random.normal(0, 1, len(row)) + (random.random(len(row)) < 0.004) * random.exponential(5, len(row))


def _ticking(row: Floats, random: Random) -> Any:
    period = int(random.integers(12, 60))
    return 5 + random.normal(0, 0.4, len(row)) + (row % period == 0) * random.normal(25, 3, len(row))


def _counts(row: Floats, random: Random) -> Any:
    mean = 20 * (1 + 0.7 * np.sin(2 * np.pi * row / 288 - 1))
    return random.negative_binomial(3, 3 / (3 + mean)) + (random.random(len(row)) < 0.002) * random.exponential(
        60, len(row)
    )


def _rides(row: Floats, random: Random) -> Any:
    day = row / 48
    daily = 8000 * np.sin(2 * np.pi * day - 2) + 3000 * np.sin(4 * np.pi * day)
    return 15000 + daily - 2500 * (day % 7 > 5) * np.sin(2 * np.pi * day) + random.normal(0, 600, len(row))


def _machine(row: Floats, random: Random) -> Any:
    steps = random.normal(0, 0.5, len(row))
    for at in range(1, len(row)):
        steps[at] += 0.995 * steps[at - 1]
    return 85 + 1.2 * steps + 3 * np.sin(2 * np.pi * row / 288)


def _speed(row: Floats, random: Random) -> Any:
    day = row / 144
    morning = 20 * np.exp(-(((day % 1 - 0.35) / 0.06) ** 2))
    evening = 15 * np.exp(-(((day % 1 - 0.72) / 0.08) ** 2)) * (day % 7 < 5)
    jams = (random.random(len(row)) < 0.01) * random.exponential(10, len(row))
    return 70 - morning - evening + random.normal(0, 4, len(row)) - jams


def _cost(row: Floats, random: Random) -> Any:
    base = 0.1 * np.exp(random.normal(0, 0.3, len(row))) * (1 + 0.3 * np.sin(2 * np.pi * row / 24))
    return base + (random.random(len(row)) < 0.01) * random.exponential(0.2, len(row))


def _square(row: Floats, random: Random) -> Any:
    day = (row % 288) / 288
    return np.where((day > 0.37) & (day < 0.75), 80.0, 20.0) + random.uniform(-3, 3, len(row))


def _bursts(row: Floats, random: Random) -> Any:
    values = random.exponential(2, len(row))
    at = 0
    while at < len(row):
        at += int(random.exponential(150)) + 5
        values[at : at + int(random.integers(2, 12))] += random.exponential(60)
    return values


def _rounded(row: Floats, random: Random) -> Any:
    return np.round(50 + 4 * np.sin(2 * np.pi * row / 288) + random.normal(0, 0.7, len(row)))


_FAMILIES: Mapping[str, tuple[float, int, Callable[[Floats, Random], Any]]] = {
    "flat": (300.0, 96, _flat),
    "ticking": (300.0, 288, _ticking),
    "counts": (300.0, 288, _counts),
    "rides": (1800.0, 48, _rides),
    "machine": (300.0, 96, _machine),
    "speed": (600.0, 144, _speed),
    "cost": (3600.0, 24, _cost),
    "square": (300.0, 288, _square),
    "bursts": (300.0, 96, _bursts),
    "rounded": (300.0, 288, _rounded),
}
"""For each family: seconds between two rows, rows of its season, and its values without anomalies."""


def _spike(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    values[at : at + int(random.integers(1, 4))] += random.uniform(0.8, 2) * _range(values[:at])


def _dip(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    values[at : at + int(random.integers(1, 4))] -= random.uniform(0.8, 2) * _range(values[:at])


def _level_shift(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    values[at:] += random.choice([-1, 1]) * random.uniform(2, 4) * np.std(values[:at])


def _drift(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    end = random.choice([-1, 1]) * random.uniform(3, 6) * np.std(values[:at])
    values[part] += np.linspace(0, end, part.stop - part.start)


def _variance(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    values[part] += random.normal(0, random.uniform(2, 4) * np.std(values[:at]), part.stop - part.start)


def _stuck(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    values[part] = values[at]


def _season_break(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    values[part] = values[part.start - day_rows // 2 : part.stop - day_rows // 2].copy()


def _missing_peak(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    part = slice(at, min(len(values), max(part.stop, at + day_rows)))
    noise = random.normal(0, 0.1 * np.std(values[:at]), part.stop - part.start)
    values[part] = np.minimum(values[part], np.median(values[:at])) + noise


def _pattern(values: Floats, at: int, part: slice, day_rows: int, random: Random) -> None:
    spread, count = float(np.std(values[:at])), part.stop - part.start
    wave = np.sign(np.sin(2 * np.pi * np.arange(count) / random.uniform(6, 20)))
    values[part] = values[part].mean() + 1.5 * spread * wave + random.normal(0, 0.1 * spread, count)


def _range(values: Floats) -> float:
    low, high = np.percentile(values, [0.5, 99.5])
    return float(high - low)


_ANOMALIES: Mapping[str, Callable[[Floats, int, slice, int, Random], None]] = {
    "spike": _spike,
    "dip": _dip,
    "level_shift": _level_shift,
    "drift": _drift,
    "variance": _variance,
    "stuck": _stuck,
    "season_break": _season_break,
    "missing_peak": _missing_peak,
    "pattern": _pattern,
}
