"""Large runs of the command line on Spark: Sail in every run, and with NIGHTLY=1 also Spark itself, which needs Java."""

import json
import shutil
from pathlib import Path

import pytest

from lakehouse_tests.cli.conftest import Command
from lakehouse_tests.nightly import NIGHTLY

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    file = tmp_path / "sales.csv"
    rows = (
        f"{number},A1,MUG,{number % 9 + 1},2011-05-0{number % 3 + 1} 08:26:00,2.55,17850,France\n"
        for number in range(300)
    )
    file.write_text(HEADER + "".join(rows))
    return file


def _load(lakehouse: Command, file: Path, month: str, address: str) -> None:
    on_spark = {"LAKEHOUSE_ENGINE": "spark", "LAKEHOUSE_SPARK": address, "LAKEHOUSE_SPARK_FROM_MB": "0"}
    done = lakehouse("load", "retail", str(file), "--json", **on_spark)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["partitions"] == f"{month}-01..{month}-03"
    sql = f"select sum(lines)::int as n from gold.retail_daily where dt::text like '{month}%'"
    counted = lakehouse("query", sql, "--format", "json")
    assert json.loads(counted.stdout) == [{"n": 300}]
    assert lakehouse("audit").returncode == 0


def test_load_on_spark_connect_reaches_gold(lakehouse: Command, sales: Path, sail: str) -> None:
    _load(lakehouse, sales, "2011-05", sail)


def test_run_that_does_not_reach_spark_says_so_and_the_next_one_does_its_work(
    lakehouse: Command, tmp_path: Path
) -> None:
    file = tmp_path / "more.csv"
    file.write_text(HEADER + "9,A1,MUG,6,2011-06-03 08:26:00,2.55,17850,France\n")
    away = {"LAKEHOUSE_ENGINE": "spark", "LAKEHOUSE_SPARK": "sc://127.0.0.1:1", "LAKEHOUSE_SPARK_FROM_MB": "0"}
    done = lakehouse("load", "retail", str(file), **away)
    assert done.returncode == 1
    assert "lakehouse: Spark at sc://127.0.0.1:1 does not answer" in done.stderr
    again = lakehouse("load", "retail", str(file))
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "Brought up to date: 2011-06-03.")


@pytest.mark.skipif(not NIGHTLY or shutil.which("java") is None, reason="starts a JVM; NIGHTLY=1 runs it, with Java")
def test_load_by_spark_on_java_reaches_gold(lakehouse: Command, sales: Path) -> None:
    sales.write_text(sales.read_text().replace("2011-05", "2011-04"))
    _load(lakehouse, sales, "2011-04", "local[2]")
