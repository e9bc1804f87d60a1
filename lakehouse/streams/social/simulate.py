"""Simulate activity on social platforms: posts, reactions soon after, and a few trending posts each day."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from lakehouse.streams import distributions

AUTHORS = distributions.numbered("author-", 30_000)
FOLLOWERS = (400_000 / (1 + np.arange(len(AUTHORS))) ** 0.8).astype(np.int64)

PLATFORMS = pa.array(["chirper", "photogram", "clipshare", "forum"])
LANGUAGES = pa.array(["en", "es", "de", "fr", "pt", "ja", None])
ACTIONS = pa.array(["post", "like", "share", "comment"])
SHARES = (14, 58, 11, 17)
POST, COMMENT = 0, 3
TRENDING = 40  # posts per day that draw a quarter of all actions
TOPICS = ("coffee", "the new phone", "football", "gardening", "trains", "a long book", "Sunday baking", "lighthouses")
TEXTS = pa.array(
    [
        text.format(topic)
        for text in (
            "Thinking about {0} again.",
            "Nobody told me {0} would be this good! 🎉",
            'They said "{0}" — and they meant it',
            "{0}: a thread",
            "Ça alors, {0}…",
            "More {0}, please",
        )
        for topic in TOPICS
    ]
)
TAGS = pa.array(["news", "love", "photo", "travel", "food", "music", "art", "tech", "fitness", "books", "café", "日本"])


def simulate(rng: np.random.Generator, events: int, start: datetime, end: datetime) -> pa.Table:
    """Draw `events` actions within [start, end), in order of time."""
    moments = distributions.times(rng, events, start, end, distributions.EVENINGS, weekend=1.15)
    action = distributions.mixed(rng, events, SHARES)
    author = distributions.skewed(rng, events, len(AUTHORS))
    post, trait = _posts(rng, moments, action)
    without_text = (action != POST) & (action != COMMENT)
    drift = (moments // (24 * distributions.HOUR)) % 365  # accounts gain about one follower a day
    return pa.table(
        {
            "event_id": distributions.ids(rng, events),
            "event_time": distributions.timestamps(moments),
            "post_id": post,
            "author_id": distributions.named(AUTHORS, author),
            "platform": distributions.named(PLATFORMS, trait * 31 % 7 % len(PLATFORMS)),
            "action": distributions.named(ACTIONS, action),
            "text": distributions.blank(distributions.named(TEXTS, rng.integers(0, len(TEXTS), events)), without_text),
            "hashtags": _hashtags(rng, action),
            "lang": distributions.named(LANGUAGES, trait * 17 % 11 % len(LANGUAGES)),
            "followers": pa.array(FOLLOWERS[author] + drift),
        }
    )


def _posts(
    rng: np.random.Generator, moments: distributions.Integers, action: distributions.Integers
) -> tuple[distributions.Column, distributions.Integers]:
    """Draw the post of each action, and a number that decides the post's platform and language.

    The action `post` makes a new post. Other actions are about a recent post, or one of the day's trending posts.
    """
    written = np.cumsum(action == POST)
    recent = written - 1 - distributions.skewed(rng, len(action), 200)
    first = int(moments[0] // (24 * distributions.HOUR)) if len(moments) else 0
    day = moments // (24 * distributions.HOUR) - first
    trending = day * TRENDING + distributions.skewed(rng, len(action), TRENDING)
    new = distributions.ids(rng, int(written[-1]) if len(written) else 0)
    names = pa.concat_arrays([new, _trending(first, int(day[-1]) + 1 if len(day) else 0)])
    about_trending = (action != POST) & ((recent < 0) | distributions.chance(rng, len(action), 0.25))
    subject = np.where(action == POST, written - 1, np.where(about_trending, len(new) + trending, recent))
    return distributions.named(names, subject), np.where(about_trending, first * TRENDING + trending, subject)


def _trending(first: int, days: int) -> distributions.Column:
    """Name the trending posts of `days` days, from day `first` since 1970. Every call gives the same names."""
    dates = [datetime.fromtimestamp(0, UTC) + timedelta(days=first + day) for day in range(days)]
    return pa.array([f"trending-{date:%Y%m%d}-{rank:02d}" for date in dates for rank in range(TRENDING)], pa.string())


def _hashtags(rng: np.random.Generator, action: distributions.Integers) -> distributions.Column:
    """Draw up to four hashtags of a post and one of a comment. They are null for actions without text."""
    most = np.select((action == POST, action == COMMENT), (5, 2), 1)
    counts = (rng.random(len(action)) * most).astype(np.int64)
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    tags = distributions.named(TAGS, distributions.skewed(rng, int(offsets[-1]), len(TAGS)))
    without_text = pa.array((action != POST) & (action != COMMENT))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), tags, mask=without_text)
