"""Simulate visits to a web shop: sessions of a few minutes, most of them in the evening, and an occasional robot."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from lakehouse.streams import distributions

SHOP = "https://shop.example"
USERS = distributions.numbered("user-", 50_000)
DEVICES = pa.array(["mobile", "desktop", "tablet", None])
COUNTRIES = pa.array(["US", "DE", "GB", "FR", "IN", "BR", "ES", "IT", "NL", "PL", "CA", "JP", "SE", "AU", "MX", None])

ACTIONS = pa.array(["page_view", "click", "search", "add_to_cart", "purchase"])
SHARES = (60, 21, 10, 7, 2)
PRODUCTS = 3_000
WORDS = ("lamp", "mug", "tea+towel", "bag", "clock", "candle", "jam+jar", "doormat", "cake+stand", "umbrella")
PAGES = pa.array(
    [f"{SHOP}/", f"{SHOP}/cart", f"{SHOP}/checkout/done"]
    + [f"{SHOP}/search?q={word}" for word in WORDS]
    + [f"{SHOP}/product/{number:05d}" for number in range(PRODUCTS)]
)
HOME, CART, DONE, SEARCH, PRODUCT = 0, 1, 2, 3, 3 + len(WORDS)

SOURCES = pa.array(
    [
        None,
        "https://www.google.com/",
        "https://www.facebook.com/",
        "https://t.co/9fQ2",
        "https://duckduckgo.com/",
        "https://www.bing.com/search?q=gifts",
        "https://blog.example.org/ten-gifts",
        "https://www.youtube.com/",
    ]
)
SOURCE_SHARES = (38, 30, 9, 5, 4, 5, 6, 3)

SECOND = 1_000_000.0


def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` actions within [start, end), in order of time, in sessions of 6 on average."""
    sizes = distributions.groups(rng, events, mean=6, longest=50)
    robot = distributions.chance(rng, len(sizes), 1 / 5_000)
    sizes = distributions.cut(np.where(robot, 150, sizes), events)
    robot = robot[: len(sizes)]
    begins = distributions.times(rng, len(sizes), start, end, distributions.EVENINGS, weekend=1.2)
    gaps = np.repeat(np.where(robot, 0.2 * SECOND, 25 * SECOND), sizes)
    moments = distributions.paced(rng, begins, sizes, gaps, end)

    user = distributions.skewed(rng, len(sizes), len(USERS))
    session = distributions.members(
        {
            "session_id": distributions.ids(rng, len(sizes)),
            "user_id": distributions.blank(
                distributions.named(USERS, user), distributions.chance(rng, len(sizes), 0.45)
            ),
            "device": distributions.named(DEVICES, distributions.mixed(rng, len(sizes), (58, 34, 7, 1))),
            "country": distributions.named(COUNTRIES, distributions.skewed(rng, len(sizes), len(COUNTRIES))),
            "source": distributions.named(SOURCES, distributions.mixed(rng, len(sizes), SOURCE_SHARES)),
        },
        sizes,
    )
    entry = distributions.positions(sizes) == 0
    action = np.where(entry, 0, distributions.mixed(rng, events, SHARES))
    page = distributions.named(PAGES, _pages(rng, action))
    in_order = np.argsort(moments, kind="stable")
    return pa.table(
        {
            "event_id": distributions.ids(rng, events),
            "event_time": distributions.timestamps(moments),
            "session_id": session["session_id"],
            "user_id": session["user_id"],
            "event_type": distributions.named(ACTIONS, action),
            "page_url": page,
            "referrer": _referrers(page, session["source"], entry),
            "device": session["device"],
            "country": session["country"],
        }
    ).take(in_order)


def _pages(rng: np.random.Generator, action: distributions.Integers) -> distributions.Integers:
    """Draw the page of each action: searches and purchases have their own, other actions are mostly about a product."""
    product = PRODUCT + distributions.skewed(rng, len(action), PRODUCTS)
    anywhere = np.where(distributions.chance(rng, len(action), 0.2), HOME, product)
    searched = SEARCH + distributions.skewed(rng, len(action), len(WORDS))
    in_cart = np.where(distributions.chance(rng, len(action), 0.1), CART, anywhere)
    return np.choose(action, (in_cart, anywhere, searched, product, np.full_like(action, DONE)))


def _referrers(
    page: distributions.Column, source: distributions.Column, entry: distributions.Flags
) -> distributions.Column:
    """Get each action's referrer: the session's source for the first action, the previous page for later ones."""
    both = pa.concat_arrays([page, source])
    own = np.arange(len(page))
    return both.take(np.where(entry, len(page) + own, own - 1))
