"""Simulate changes of orders: created, mostly paid, shipped and delivered within days, some cancelled or deleted."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from lakehouse.streams import distributions

CUSTOMERS = distributions.numbered("customer-", 15_000)
CHANNELS = pa.array(["web", "app", "store", "marketplace", None])
MARKETS = (("EUR", "DE"), ("USD", "US"), ("GBP", "GB"), ("EUR", "FR"), ("SEK", "SE"), ("EUR", "NL"))
CURRENCIES = pa.array([currency for currency, _ in MARKETS])
COUNTRIES = pa.array([country for _, country in MARKETS])

STATUSES = pa.array(["created", "paid", "shipped", "delivered", "cancelled", None])
CREATED, PAID, SHIPPED, DELIVERED, CANCELLED, DELETED = range(6)
LIFE_CYCLES = (
    (CREATED,),
    (CREATED, PAID),
    (CREATED, PAID, SHIPPED),
    (CREATED, PAID, SHIPPED, DELIVERED),
    (CREATED, CANCELLED),
    (CREATED, PAID, CANCELLED),
    (CREATED, CANCELLED, DELETED),
)
LIFE_CYCLE_WEIGHTS = (12, 17, 15, 40, 9, 5, 2)
LENGTHS = np.array([len(life) for life in LIFE_CYCLES])
STEPS = np.array(
    [life + (DELETED,) * (4 - len(life)) for life in LIFE_CYCLES]
)  # padded to one length; no order reaches the padding
OPS = pa.array(["insert", "update", "delete"])
INSERT, UPDATE, DELETE = range(3)

HOURS_AFTER = np.array([0.0, 0.2, 20.0, 40.0, 3.0, 24.0])  # mean time since the previous step
SEASON = np.array(
    [0.9, 0.9, 0.95, 1.0, 1.0, 1.0, 0.95, 0.95, 1.0, 1.05, 1.3, 1.4]
)  # factor of amounts by month, from January


def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` changes within [start, end), in order of time. The versions of each order count up from 1."""
    life = distributions.mixed(rng, events, LIFE_CYCLE_WEIGHTS)
    sizes = distributions.cut(LENGTHS[life], events)
    orders = len(sizes)
    begins = distributions.times(rng, orders, start, end, distributions.EVENINGS, weekend=1.1)
    step = distributions.positions(sizes)
    status = STEPS[np.repeat(life[:orders], sizes), step]
    moments = distributions.paced(rng, begins, sizes, HOURS_AFTER[status] * distributions.HOUR, end)

    home = distributions.skewed(rng, orders, len(MARKETS))
    order = distributions.members(
        {
            "order_id": distributions.ids(rng, orders),
            "customer_id": distributions.named(CUSTOMERS, distributions.skewed(rng, orders, len(CUSTOMERS))),
            "amount": distributions.decimals(
                distributions.money(rng, 60 * SEASON[distributions.months(begins)], spread=0.9), 18, 2
            ),
            "currency": distributions.named(CURRENCIES, home),
            "channel": distributions.named(CHANNELS, distributions.mixed(rng, orders, (46, 32, 9, 12, 1))),
            "country": distributions.named(COUNTRIES, home),
        },
        sizes,
    )
    deleted = status == DELETED
    return pa.table(
        {
            "order_id": order["order_id"],
            "version": pa.array(step + 1),
            "event_time": distributions.timestamps(moments),
            "op": distributions.named(OPS, np.select((step == 0, deleted), (INSERT, DELETE), UPDATE)),
            "customer_id": order["customer_id"],
            "amount": distributions.blank(order["amount"], deleted),
            "currency": order["currency"],
            "status": distributions.named(STATUSES, status),
            "channel": order["channel"],
            "country": order["country"],
        }
    ).take(np.argsort(moments, kind="stable"))
