"""Lineage between entries and columns is followed at any distance, and so is personal data."""

from pathlib import Path

import pytest

from lakehouse.serving.catalog.contents import Contents
from lakehouse.serving.catalog.definitions import Definitions
from lakehouse.serving.catalog.entries import Column, Entry, Kind
from lakehouse.serving.catalog.lineage import MAX_NODES, downstream_of, lineage_of
from lakehouse.serving.catalog.personal import personal_columns
from lakehouse.serving.query.lake_snapshot import LakeSnapshot, PinnedTables
from lakehouse.serving.query.named_queries import NamedQuery


def _entry(name: str, *columns: str, reads: tuple[str, ...] = (), personal: str = "", kind: Kind = "table") -> Entry:
    described = [Column(each, "varchar", classification="restricted" if each == personal else "") for each in columns]
    return Entry(name, kind, "", None, None, described, [*reads])


def _contents(*entries: Entry, queries: dict[str, NamedQuery] | None = None) -> Contents:
    definitions = Definitions(1, {}, {}, {}, queries or {}, {}, {})
    snapshot = LakeSnapshot(1, {}, PinnedTables({}), {})
    return Contents(snapshot, definitions, {entry.name: entry for entry in entries})


EDGES = {"c": ["b"], "b": ["a"], "d": ["b"], "e": ["f"], "y": ["x"], "x": ["y"]}


@pytest.mark.parametrize(
    ("node", "nodes"), [("b", "abcd"), ("a", "abcd"), ("c", "abc"), ("e", "ef"), ("x", "xy"), ("alone", ["alone"])]
)
def test_lineage_has_what_leads_to_a_node_and_what_it_leads_to(node: str, nodes: str | list[str]) -> None:
    found = lineage_of(EDGES, node)
    assert found.nodes == [*nodes]
    assert all(source in found.nodes and name in found.nodes for source, name in found.edges)


def test_lineage_leaves_out_the_most_distant_nodes() -> None:
    edges = {f"n{number:03}": [f"n{number - 1:03}"] for number in range(1, 200)}
    found = lineage_of(edges, "n000")
    assert (found.nodes[-1], found.left_out) == (f"n{MAX_NODES - 1:03}", 200 - MAX_NODES)
    assert downstream_of(edges, "n000") == ["n001"]


@pytest.mark.parametrize(
    ("sql", "personal"),
    [
        ("select name, city from silver.people", ["name"]),
        ("select city from silver.people", []),
        ("select upper(name) || city as label, count(*) as n from silver.people group by all", ["label"]),
        ("select * from silver.people", ["name"]),
        ("what sqlglot ) can't read", ["label", "n"]),
    ],
)
def test_columns_computed_from_personal_data_are_personal(sql: str, personal: list[str]) -> None:
    bronze = _entry("bronze.people", "name", "city", "_raw", personal="name")
    silver = _entry("silver.people", "name", "city", reads=("bronze.people",))
    columns = ("name", "city") if "label" not in personal else ("label", "n")
    query = _entry("queries.q", *columns, reads=("silver.people",), kind="query")
    contents = _contents(bronze, silver, query, queries={"q": NamedQuery("q", "", {}, sql, Path("q.sql"))})
    assert personal_columns(contents, bronze) == ["name", "_raw"]
    assert personal_columns(contents, silver) == ["name"]
    assert personal_columns(contents, query) == personal
