"""Find the line of a contract that a message is about."""

from collections import deque
from collections.abc import Iterator

import yaml

NAMING_KEYS = ("name", "property")
"""Keys whose values name a mapping in a list, such as a field or a custom property."""


def line_of(text: str, where: str) -> int | None:
    """Find the line of a part of a YAML document, from 1: as much of a path such as `schema.mag.required` as is there.

    None if none of it is there.
    """
    node, line = yaml.compose(text, yaml.SafeLoader), None
    for part in where.split("."):
        if (found := _find(node, part)) is None:
            break
        node, line = found
    return line


def _find(root: yaml.Node | None, part: str) -> tuple[yaml.Node, int] | None:
    """Find the nearest part of a node that is at this key or number, or has this name; with its line."""
    nodes = deque([root] if root is not None else [])
    while nodes:
        node = nodes.popleft()
        for key, value in _items(node):
            if key == part:
                return value, value.start_mark.line + 1
            nodes.append(value)
    return None


def _items(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            # The line of a key, because a list or mapping may begin on the next.
            value.start_mark = key.start_mark
            yield str(key.value), value
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield str(number), item
            if isinstance(item, yaml.MappingNode):
                names = (value.value for key, value in item.value if key.value in NAMING_KEYS)
                yield from ((name, item) for name in names if isinstance(name, str))
