"""Find columns that may hold personal data: those that a contract classifies so, and those that are computed from them."""

from collections.abc import Collection

from lakehouse.serving.catalog.contents import Contents
from lakehouse.serving.catalog.entries import Entry
from lakehouse.serving.catalog.lineage import upstream_of

PERSONAL = {"restricted", "confidential", "sensitive", "pii"}
"""Classifications of columns that samples leave out."""

RAW_COLUMNS = {"raw", "_raw", "_extra"}
"""Columns with whole rows as they arrived."""


def personal_columns(contents: Contents, entry: Entry) -> list[str]:
    """List the columns that hold personal data, or are computed from columns that do."""
    upstream = upstream_of(contents.reads(contents.entries.keys()), [entry.name]) & contents.entries.keys()
    personal = {
        f"{name}.{column.name}"
        for name in upstream
        for column in contents.entries[name].columns
        if column.classification.lower() in PERSONAL
    }
    if not personal:
        return []
    edges = contents.column_edges(upstream) | _unknown_edges(contents, upstream)
    return [
        column.name
        for column in entry.columns
        if column.name in RAW_COLUMNS or upstream_of(edges, [f"{entry.name}.{column.name}"]) & personal
    ]


def _unknown_edges(contents: Contents, names: Collection[str]) -> dict[str, list[str]]:
    """Return edges from every column to every column read, of entries whose lineage can't be followed."""
    unknown = [contents.entries[name] for name in names if not contents.columns_of(name)]
    return {
        f"{entry.name}.{column.name}": [
            f"{read}.{of.name}" for read in entry.reads if read in names for of in contents.entries[read].columns
        ]
        for entry in unknown
        for column in entry.columns
    }
