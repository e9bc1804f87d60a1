"""Simulate readings of a fleet of devices: each has a site and an offset, and days are warm and nights cool."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from lakehouse.streams import distributions

DEVICES = distributions.numbered("device-", 2_000)
SITES = distributions.numbered("site-", 25, width=2)
FIRMWARES = pa.array(["1.8.4", "2.0.1", "2.0.3", "2.1.0-rc1"])

METRICS = pa.array(["temperature", "humidity", "pressure", "vibration", "battery", "other"])
SHARES = (35, 20, 15, 12, 13, 5)
CENTRE = np.array([21.0, 55.0, 1013.0, 2.0, 70.0, 1.0])
NOISE = np.array([0.8, 4.0, 6.0, 0.5, 4.0, 0.4])
BY_DAY = np.array([6.0, -10.0, -1.5, 0.4, 0.0, 0.0])  # difference between the afternoon and the mean
BY_DEVICE = np.array([3.0, 8.0, 4.0, 0.5, 14.0, 0.2])
LOWEST = np.array([-30.0, 4.0, 930.0, 0.01, 2.0, -5.0])
HIGHEST = np.array([60.0, 99.0, 1080.0, 30.0, 100.0, 5.0])
BROKEN = np.array([140.0, 130.0, 1300.0, 75.0, 120.0, 5.0])  # reading of a failing sensor, outside the plausible range

UNITS = pa.array(["C", "%", "hPa", "mm/s", "%", None, "°C", "percent", "hpa", "mm/s", "percent", None])


def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` readings within [start, end), in order of time. About 1 in 1,000 is of a failing sensor."""
    moments = distributions.times(rng, events, start, end, distributions.STEADY)
    device = distributions.skewed(rng, events, len(DEVICES))
    metric = distributions.mixed(rng, events, SHARES)
    older_spelling = device % 5 == 0
    return pa.table(
        {
            "event_id": distributions.ids(rng, events),
            "event_time": distributions.timestamps(moments),
            "device_id": distributions.named(DEVICES, device),
            "site": distributions.named(SITES, device % len(SITES)),
            "metric": distributions.named(METRICS, metric),
            "value": pa.array(_values(rng, moments, device, metric)),
            "unit": distributions.named(UNITS, metric + len(METRICS) * older_spelling),
            "firmware": distributions.blank(distributions.named(FIRMWARES, device % len(FIRMWARES)), device % 50 == 0),
        }
    )


def _values(
    rng: np.random.Generator,
    moments: distributions.Integers,
    device: distributions.Integers,
    metric: distributions.Integers,
) -> distributions.Floats:
    """Draw the measured values, to a hundredth: the metric's mean, time of day, the device's offset and noise."""
    warmth = np.sin((distributions.time_of_day(moments) - 9) * (np.pi / 12))
    offset = (device * 7919 % 1000) / 500 - 1  # fixed for each device, from -1 to 1
    values: distributions.Floats = CENTRE[metric] + BY_DAY[metric] * warmth + BY_DEVICE[metric] * offset
    values += NOISE[metric] * rng.standard_normal(len(metric))
    values = np.clip(values, LOWEST[metric], HIGHEST[metric])
    values = np.where(distributions.chance(rng, len(metric), 0.001), BROKEN[metric], values)
    rounded: distributions.Floats = np.round(values, 2)
    return rounded
