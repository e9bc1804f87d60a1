"""Run a test for each stream: its contract, its simulator, and its SQL over events in plain DuckDB."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import lakehouse.streams
from lakehouse.contracts.model import Contract
from lakehouse.contracts.odcs import load_contract
from lakehouse.pipeline.features import WINDOWS_SQL
from lakehouse.sources.simulation import Simulate

FOLDERS = sorted(path.parent for path in Path(lakehouse.streams.__file__).parent.glob("*/contract.odcs.yaml"))


@pytest.fixture(params=[folder.name for folder in FOLDERS])
def folder(request: pytest.FixtureRequest) -> Path:
    return FOLDERS[0].parent / str(request.param)


@pytest.fixture
def contract(folder: Path) -> Contract:
    return load_contract(folder)


@pytest.fixture
def simulate(folder: Path) -> Simulate:
    """Load the simulator by its path, as for streams outside the package."""
    spec = importlib.util.spec_from_file_location(f"simulate_{folder.name}", folder / "simulate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Simulate = module.simulate
    return function


@pytest.fixture
def sql(folder: Path) -> Callable[[str], str]:
    """The stream's SQL of a layer."""
    return lambda layer: (folder / f"{layer}.sql").read_text()


@pytest.fixture
def lake() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 2}) as connection:
        yield connection


@pytest.fixture
def land(lake: duckdb.DuckDBPyConnection, contract: Contract, sql: Callable[[str], str]) -> Callable[[pa.Table], None]:
    """Make the tables that the stream's SQL reads: `valid`, `silver`, `events`, `days` and `windows`."""

    def land(events: pa.Table) -> None:
        typed = ", ".join(f'cast("{f.name}" as {f.type.sql}) as "{f.name}"' for f in contract.fields)
        lake.register("landed", events)
        lake.execute(
            f"create or replace table valid as select {typed}, cast({contract.event_time} as date) as dt,"
            " timestamp '2025-11-21 00:00:00' as _arrived_at from landed"
        )
        lake.execute(f"create or replace table silver as {sql('silver')}")
        lake.execute("create or replace view events as select * from silver")
        lake.execute("create or replace table days as select distinct dt from silver")
        lake.execute(f"create or replace view windows as {WINDOWS_SQL}")

    return land


@pytest.fixture
def land_rows(contract: Contract, land: Callable[[pa.Table], None]) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    """Land events with these fields. Other required fields get a default."""
    defaults = {
        "string": "x",
        "timestamp": datetime(2025, 11, 20, 12),
        "integer": 1,
        "double": 1.0,
        "decimal": Decimal(1),
    }

    def land_rows(rows: Sequence[Mapping[str, Any]]) -> None:
        required = {f.name: f.enum[0] if f.enum else defaults[f.type.kind] for f in contract.fields if f.required}
        full = [{contract.key[0]: f"key-{number:04d}", **row} for number, row in enumerate(rows)]
        columns = {
            f.name: pa.array(
                [row.get(f.name, required.get(f.name)) for row in full],
                pa.decimal128(f.type.precision, f.type.scale) if f.type.kind == "decimal" else None,
            )
            for f in contract.fields
        }
        land(pa.table(columns))

    return land_rows
