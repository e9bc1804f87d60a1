"""The public API is what `docs/api.md` and `docs/client.md` say, is typed, and costs nothing to import."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import pytest

import lakehouse
from lakehouse import audit, errors
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.silver import clean_days
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage

if TYPE_CHECKING:
    import dagster
    import duckdb

    from lakehouse.auditing.findings import Report
    from lakehouse.contracts.model import Contract

DAY = date(2025, 11, 20)
PAGE = Path(__file__).parents[1] / "docs" / "api.md"
EXAMPLES = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
PAGES = PAGE.read_text() + PAGE.with_name("client.md").read_text()
RETAIL = b"""\
{"InvoiceNo": "1", "StockCode": "a", "Quantity": 500, "InvoiceDate": "2025-11-20T12:00:00Z", "UnitPrice": "2.5", "CustomerID": 1}
{"InvoiceNo": "2", "StockCode": "b", "Quantity": 1, "InvoiceDate": "2025-11-20T13:00:00Z", "UnitPrice": "2.5", "CustomerID": 2}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake that is up and holds a day of retail."""
    settings = Settings(home=tmp_path_factory.mktemp("api"))
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        lake.bootstrap()
        retail = lake.stream("retail")
        land(lake.objects, "retail", RETAIL, now=datetime(2025, 11, 20, 14, tzinfo=UTC))
        ingest_days(lake, retail, [DAY])
        clean_days(lake, retail, [DAY])
        lake.engine.close()
        yield settings.root


def _run(script: str, **variables: str) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_of_the_page_run(home: Path) -> None:
    check = (
        'import lakehouse\nprint(rows, connect().sql("select customer_id, spent from gold.big_spenders").fetchall())'
    )
    out = _run(f"{EXAMPLES}\n{check}", LAKEHOUSE_HOME=str(home), DAGSTER_DISABLE_TELEMETRY="yes")
    assert "streams/missing/contract.odcs.yaml: file: is missing" in out
    assert "'retial'" in out
    assert "[('1', Decimal('1250.000')), ('2', Decimal('2.500'))] [(1, Decimal('1250.000'))]" in out


@pytest.mark.parametrize("name", lakehouse.__all__)
def test_each_name_is_documented_and_used_in_an_example(name: str) -> None:
    assert inspect.getdoc(getattr(lakehouse, name))
    assert re.search(rf"^```python\n(?:(?!^```).)*\b{name}\b", PAGES, re.MULTILINE | re.DOTALL)
    assert name.endswith("Error") or f"::: lakehouse.{name}\n" in PAGES


def test_every_error_is_public() -> None:
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert {name for name in lakehouse.__all__ if name.endswith("Error")} == defined


def test_names_are_listed_and_others_are_refused() -> None:
    assert set(lakehouse.__all__) <= set(dir(lakehouse))
    with pytest.raises(AttributeError, match="has no attribute 'conect'"):
        lakehouse.conect  # type: ignore[attr-defined]  # noqa: B018
    assert sorted(lakehouse.__all__, key=str.swapcase) == sorted(set(lakehouse.__all__), key=str.swapcase)


def test_import_loads_nothing_heavy() -> None:
    heavy = "('dagster', 'duckdb', 'pyarrow', 'pyiceberg', 'pydantic', 'numpy')"
    assert _run(f"import sys, lakehouse; print([name for name in {heavy} if name in sys.modules])") == "[]\n"


def test_audit_stays_the_function_once_its_room_is_imported() -> None:
    importlib.import_module("lakehouse.auditing.findings")
    assert lakehouse.audit is audit


def test_types_are_known_to_mypy() -> None:
    if TYPE_CHECKING:  # mypy checks this file; the calls are not made
        assert_type(lakehouse.connect(), duckdb.DuckDBPyConnection)
        assert_type(lakehouse.audit(lakehouse.Lake(lakehouse.Settings())), Report)
        assert_type(lakehouse.load_contract(PAGE), Contract)
        assert_type(lakehouse.build_definitions(lakehouse.Settings()), dagster.Definitions)
    assert (Path(lakehouse.__path__[0]) / "py.typed").is_file()
