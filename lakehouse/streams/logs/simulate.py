"""Simulate log lines: two dozen services under steady load, and incidents in which one of them fails for minutes."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from lakehouse.streams import distributions

SERVICES = pa.array(
    ["gateway", "catalogue", "checkout", "search", "payments", "accounts", "inventory", "pricing", "recommendations",
     "notifications", "shipping", "reviews", "media", "sessions", "fraud", "ledger", "reports", "exports", "imports",
     "scheduler", "mailer", "audit", "backup", "Gateway"]
)  # fmt: skip
HOSTS = distributions.numbered("node-", 120, width=3)

LEVELS = pa.array(["DEBUG", "INFO", "WARN", "ERROR", "FATAL"])
SHARES = (18, 72, 7.5, 2.4, 0.1)
ERROR, FATAL = 3, 4

LINES = 500
MESSAGES = pa.array(
    [
        message
        for texts in (
            ("cache miss for key item:{0}", "retry {0} scheduled", "connection {0} returned to the pool"),
            ("GET /api/items/{0}", "POST /api/carts/{0}/lines", "job {0} finished", 'user agent "probe/{0}"'),
            ("GET /api/items/{0} took too long", "rate limit reached for client {0}", "queue depth is {0}"),
            ("timeout calling upstream {0}", 'unexpected token "}}" at byte {0}', "deadlock on row {0}"),
            ("out of memory while serving {0}", "panic in worker {0}: index out of range"),
        )
        for message in (texts[number % len(texts)].format(number) for number in range(LINES))
    ]
)
CODES = pa.array([200, 204, 301, 200, 201, 200, 404, 429, 400, 500, 503, 502, 500, 500, 503], pa.int64())
CODES_PER_LEVEL = 3
LATENCY = np.array([12.0, 25.0, 240.0, 900.0, 1500.0])  # median of each level, in milliseconds


def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` lines within [start, end), in order of time. Incidents come about every four hours."""
    moments = distributions.times(rng, events, start, end, distributions.STEADY)
    service = distributions.skewed(rng, events, len(SERVICES))
    level = distributions.mixed(rng, events, SHARES)
    _add_incidents(rng, moments, service, level, end - start)

    request = distributions.chance(rng, events, 0.7) & (level != FATAL)
    latency = LATENCY[level] * np.exp(rng.standard_normal(events) * 0.9)
    code = CODES.take(level * CODES_PER_LEVEL + distributions.skewed(rng, events, CODES_PER_LEVEL))
    return pa.table(
        {
            "event_id": distributions.ids(rng, events),
            "event_time": distributions.timestamps(moments),
            "service": distributions.named(SERVICES, service),
            "host": distributions.named(HOSTS, (service * 5 + distributions.skewed(rng, events, 5)) % len(HOSTS)),
            "level": distributions.named(LEVELS, level),
            "message": distributions.named(MESSAGES, level * LINES + rng.integers(0, LINES, events)),
            "trace_id": distributions.blank(distributions.ids(rng, events), ~request),
            "status_code": distributions.blank(code, ~request),
            "latency_ms": distributions.blank(pa.array(np.round(latency, 3)), ~request),
        }
    )


def _add_incidents(
    rng: np.random.Generator,
    moments: distributions.Integers,
    service: distributions.Integers,
    level: distributions.Integers,
    window: timedelta,
) -> None:
    """Change service and level in place by incidents: half of the lines come from a failing service, mostly errors."""
    if not len(moments):
        return
    incidents = min(rng.poisson(window / timedelta(hours=4) + 0.2), 500)
    for first in rng.integers(moments[0], moments[-1] + 1, incidents):
        duration = min(rng.integers(120, 480) * 1_000_000, (moments[-1] - moments[0]) // 4)
        affected = slice(*np.searchsorted(moments, (first, first + duration)))
        lines = affected.stop - affected.start
        fails = distributions.chance(rng, lines, 0.5)
        service[affected] = np.where(fails, rng.integers(len(SERVICES)), service[affected])
        failure = np.where(distributions.chance(rng, lines, 0.01), FATAL, ERROR)
        level[affected] = np.where(fails & distributions.chance(rng, lines, 0.8), failure, level[affected])
