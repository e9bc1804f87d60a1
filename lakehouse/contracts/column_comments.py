"""Read what SQL files say about their columns: a comment at the end of the line on which a column gets its name."""

import re

_COMMENT = re.compile(r'(?P<column>\w+)"?\s*,?[ \t]*--[ \t]*(?P<text>\S.*?)\s*$', re.MULTILINE)
_WINDOW = re.compile(r"(?P<base>\w+)_(?P<days>\d+)d")


def column_comments(sql: str) -> dict[str, str]:
    """Return the comment of each column that has one, such as `count(*) as events, -- Number of events.`

    Of two columns with one name, such as one of a common table expression, the later one's counts.
    """
    return {match["column"].lower(): match["text"] for match in _COMMENT.finditer(sql)}


def window_comments(sql: str, columns: list[str]) -> dict[str, str]:
    """Return the comments of features: `events_7d` is described by a comment on `events`, or on one of its windows."""
    bases = {_base(name): text for name, text in column_comments(sql).items()}
    described = {}
    for column in columns:
        if (window := _WINDOW.fullmatch(column)) and (text := bases.get(window["base"])):
            days = int(window["days"])
            described[column] = f"{text.rstrip('.')}, {'on the day' if days == 1 else f'in the {days} days up to it'}."
        elif text := bases.get(column):
            described[column] = text
    return described


def _base(name: str) -> str:
    window = _WINDOW.fullmatch(name)
    return window["base"] if window else name
