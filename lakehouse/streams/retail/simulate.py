"""Simulate a shop's invoices, shaped like the UCI Online Retail data: about twenty lines, one in eight cancelled."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from lakehouse.streams import distributions

LONGEST = 64  # lines of an invoice, and shelves: each line takes another shelf, so that no two lines are equal
SHELF = 64  # products per shelf

COLOURS = ("RED", "WHITE", "BLUE", "PINK", "GREEN", "IVORY", "VINTAGE", "RETROSPOT")
MATERIALS = ("METAL", "GLASS", "WOODEN", "PAPER", "ENAMEL", "CERAMIC", "COTTON", "WICKER")
THINGS = ("LUNCH BAG", "T-LIGHT HOLDER", "CAKE STAND", "MUG", "CLOCK", "SIGN", "JAM MAKING SET", "DOORMAT")
DESIGNS = ("", " OF 6", " HEART", " STAR", " SPACEBOY", ", SMALL", ", LARGE", " 12 INCH")
DESCRIPTIONS = pa.array(
    [f"{colour} {material} {thing}{design}" for design in DESIGNS for thing in THINGS for material in MATERIALS
     for colour in COLOURS]
)  # fmt: skip
CODES = pa.array(
    [f"{20_000 + number}{'ABS'[number % 3] if number % 5 == 0 else ''}" for number in range(len(DESCRIPTIONS))]
)
PRICES = 10 * distributions.money(
    np.random.default_rng(20101201), np.full(len(DESCRIPTIONS), 2.1), spread=0.9
)  # in mils

PACKS = np.array([1, 2, 3, 4, 6, 8, 10, 12, 24, 48, 96, 200])
PACK_SHARES = (27, 15, 8, 8, 11, 4, 6, 11, 6, 2, 1, 0.5)
FIRST_CUSTOMER, CUSTOMERS = 12_346, 4_372
COUNTRIES = pa.array(
    ["United Kingdom", "Germany", "France", "EIRE", "Spain", "Netherlands", "Belgium", "Portugal", "Japan"]
)
ABROAD = 11  # one customer in eleven

OPENING_HOURS = (0.01,) * 6 + (0.05, 0.5, 9, 34, 49, 58, 79, 72, 67, 78, 54, 28, 8, 4, 1) + (0.01,) * 3
SEASON = np.array(
    [0.8, 0.8, 0.9, 0.85, 0.95, 0.95, 0.95, 0.95, 1.2, 1.3, 1.5, 1.3]
)  # factor of quantities by month, from January

MINUTE = 60_000_000


def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` invoice lines within [start, end), in order of time, with the contract's field names."""
    sizes = distributions.cut(distributions.groups(rng, events, mean=20, longest=LONGEST), events)
    invoices = len(sizes)
    begins = distributions.times(rng, invoices, start, end, OPENING_HOURS, weekend=0.5)
    cancelled = (sizes <= 4) & distributions.chance(rng, invoices, 0.7)
    customer = distributions.skewed(rng, invoices, CUSTOMERS)
    country = np.where(customer % ABROAD == ABROAD - 1, customer // ABROAD % (len(COUNTRIES) - 1) + 1, 0)
    anonymous = distributions.chance(rng, invoices, 0.12)
    invoice = distributions.members(
        {
            "invoice_no": _numbers(rng, cancelled),
            # Invoices are dated to the minute, but not before `start`.
            "invoice_date": distributions.timestamps(
                np.maximum(begins // MINUTE * MINUTE, distributions.microseconds(start))
            ),
            "customer_id": distributions.blank(pa.array(customer + FIRST_CUSTOMER), anonymous),
            "country": distributions.named(COUNTRIES, np.where(anonymous, 0, country)),
        },
        sizes,
    )
    quantity = (
        PACKS[distributions.mixed(rng, events, PACK_SHARES)] * SEASON[np.repeat(distributions.months(begins), sizes)]
    )
    quantity = np.maximum(quantity.astype(np.int64), 1)
    product = _products(rng, sizes)
    unnamed = distributions.chance(rng, events, 0.003)
    return pa.table(
        {
            "invoice_no": invoice["invoice_no"],
            "stock_code": distributions.named(CODES, product),
            "description": distributions.blank(distributions.named(DESCRIPTIONS, product), unnamed),
            "quantity": pa.array(np.where(np.repeat(cancelled, sizes), -quantity, quantity)),
            "invoice_date": invoice["invoice_date"],
            "unit_price": distributions.decimals(PRICES[product], 18, 3),
            "customer_id": invoice["customer_id"],
            "country": invoice["country"],
        }
    )


def _products(rng: np.random.Generator, sizes: distributions.Integers) -> distributions.Integers:
    """Draw a product for each line. Lines of an invoice take consecutive shelves, and some products are popular."""
    first_shelf = np.repeat(rng.integers(0, LONGEST, len(sizes)), sizes)
    shelf = (first_shelf + distributions.positions(sizes)) % LONGEST
    return shelf * SHELF + distributions.skewed(rng, len(shelf), SHELF)


def _numbers(rng: np.random.Generator, cancelled: distributions.Flags) -> distributions.Column:
    """Draw invoice numbers of 18 digits. Those of cancellations begin with C."""
    digits = rng.integers(10**17, 10**18, len(cancelled)).astype(np.str_)
    return pa.array(np.strings.add(np.where(cancelled, "C", ""), digits), pa.string())
