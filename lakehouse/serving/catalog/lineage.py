"""Follow lineage upstream and downstream, of entries and of columns, as a graph to draw."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

MAX_NODES = 80
"""Nodes of a drawing: the nearest ones. A reader follows links from there."""

Edges = Mapping[str, Sequence[str]]
"""By node, the nodes that it is computed from."""


class Lineage(msgspec.Struct, frozen=True):
    """A graph around one node."""

    nodes: list[str]
    """The node itself, and those that lead to it or that it leads to."""
    edges: list[tuple[str, str]]
    """Each from a node to one that is computed from it."""
    left_out: int
    """Nodes that are left out, because they are too many: the most distant ones."""


def lineage_of(edges: Edges, node: str) -> Lineage:
    """Return the graph of what a node is computed from, and of what is computed from it, at any distance."""
    downstream = _reversed(edges)
    distances = {**_distances(edges, node), **_distances(downstream, node)}
    nearest = sorted(distances, key=lambda name: (distances[name], name))
    shown = nearest[:MAX_NODES]
    return Lineage(sorted(shown), _between(edges, shown), len(nearest) - len(shown))


def _between(edges: Edges, nodes: Collection[str]) -> list[tuple[str, str]]:
    names = set(nodes)
    return sorted((source, name) for name in names for source in edges.get(name, ()) if source in names)


def _reversed(edges: Edges) -> dict[str, list[str]]:
    readers = dict[str, list[str]]()
    for name, sources in edges.items():
        for source in sources:
            readers.setdefault(source, []).append(name)
    return readers


def _distances(edges: Edges, start: str) -> dict[str, int]:
    distances, waiting = {start: 0}, deque([start])
    while waiting:
        name = waiting.popleft()
        for source in edges.get(name, ()):
            if source not in distances:
                distances[source] = distances[name] + 1
                waiting.append(source)
    return distances


def upstream_of(edges: Edges, nodes: Iterable[str]) -> set[str]:
    """Return these nodes, and all that they are computed from."""
    return {name for node in nodes for name in _distances(edges, node)}


def downstream_of(edges: Edges, node: str) -> list[str]:
    """List the nodes that are computed from a node at once."""
    return sorted(_reversed(edges).get(node, ()))
