"""Escaping control characters, because values come from strangers and a terminal obeys what it reads."""

import re

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""All but tab and line feed, and with those that change the direction of text."""


def escape_control_characters(text: str) -> str:
    r"""Write each control character as an escape, such as `\x1b` or `\u202e`."""
    return CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escape_in_json(document: str) -> str:
    r"""Write each control character of a JSON document as `\u0000`, which means the same in JSON."""
    return CONTROL_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", document)
