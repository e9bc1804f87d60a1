"""Simulate transactions: payments, transfers and deposits of accounts, with a peak before Christmas and month-end wages."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from lakehouse.streams import distributions

ACCOUNTS = distributions.numbered("acct-", 20_000)
PARTIES = distributions.numbered("party-", 5_000)
MERCHANTS = distributions.numbered("merchant-", 400, width=4)

TYPES = pa.array(["payment", "transfer", "withdrawal", "deposit", "refund"])
SHARES = (58, 17, 9, 12, 4)
MEDIANS = np.array([32.0, 180.0, 80.0, 650.0, 28.0])
PAYMENT, WITHDRAWAL, DEPOSIT, REFUND = 0, 2, 3, 4

MARKETS = (("EUR", "DE"), ("USD", "US"), ("GBP", "GB"), ("EUR", "FR"), ("EUR", "ES"), ("CHF", "CH"), ("PLN", "PL"))
CURRENCIES = pa.array([currency for currency, _ in MARKETS])
COUNTRIES = pa.array([country for _, country in MARKETS])

STATUSES = pa.array(["settled", "pending", "declined"])
PENDING, DECLINED = 1, 2

SEASON = np.array(
    [0.85, 0.9, 0.95, 1.0, 1.0, 1.05, 1.1, 1.0, 1.0, 1.05, 1.25, 1.4]
)  # factor of spending by month, from January


def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` transactions within [start, end), in order of time. About 1 in 1,000 is of 10,000 or more."""
    moments = distributions.times(rng, events, start, end, distributions.OFFICE_HOURS, weekend=0.7)
    account = distributions.skewed(rng, events, len(ACCOUNTS))
    kind = distributions.mixed(rng, events, SHARES)
    home = account % 13 % len(MARKETS)
    cents = _amounts(rng, moments, kind)
    with_merchant = (kind == PAYMENT) | (kind == REFUND)
    abroad = distributions.chance(rng, events, 0.04)
    party = distributions.named(PARTIES, distributions.skewed(rng, events, len(PARTIES)))
    merchant = distributions.named(MERCHANTS, distributions.skewed(rng, events, len(MERCHANTS)))
    country = np.where(abroad, distributions.skewed(rng, events, len(MARKETS)), home)
    return pa.table(
        {
            "event_id": distributions.ids(rng, events),
            "event_time": distributions.timestamps(moments),
            "account_id": distributions.named(ACCOUNTS, account),
            "counterparty": distributions.blank(party, with_merchant | (kind == WITHDRAWAL)),
            "amount": distributions.decimals(cents, 18, 2),
            "currency": distributions.named(CURRENCIES, home),
            "type": distributions.named(TYPES, kind),
            "merchant": distributions.blank(merchant, ~with_merchant),
            "country": distributions.named(COUNTRIES, country),
            "status": distributions.named(STATUSES, _statuses(rng, cents, abroad)),
        }
    )


def _amounts(
    rng: np.random.Generator, moments: distributions.Integers, kind: distributions.Integers
) -> distributions.Integers:
    """Draw amounts in cents. Spending follows the season; deposits in the last days of a month are wages."""
    day = moments.view("datetime64[us]").astype("datetime64[D]")
    to_month_end = ((day.astype("datetime64[M]") + 1).astype("datetime64[D]") - day).astype(np.int64)
    factor = np.where(kind == DEPOSIT, np.where(to_month_end <= 4, 2.6, 0.8), SEASON[distributions.months(moments)])
    return distributions.money(rng, MEDIANS[kind] * factor, spread=1.1)


def _statuses(
    rng: np.random.Generator, cents: distributions.Integers, abroad: distributions.Flags
) -> distributions.Integers:
    """Draw the statuses. Large amounts and amounts from abroad are declined more often."""
    declined = 0.02 + 0.1 * (cents >= 200_000) + 0.05 * abroad
    draw = rng.random(len(cents))
    return np.select((draw < declined, draw < declined + 0.07), (DECLINED, PENDING), 0)
