"""The whole project loads: every contract, SQL file and asset. It needs no storage."""

import dagster as dg

from lakehouse.definitions import defs


def test_definitions_load() -> None:
    dg.Definitions.validate_loadable(defs)
    assert "lakehouse/problems" not in (defs.metadata or {})
