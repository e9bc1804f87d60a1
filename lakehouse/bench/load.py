"""`bench load`: a large file through bronze and silver, beside DuckDB alone and pandas, which validate nothing."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.bench.figures import Figure, PeakMemory, Spent, figure, own_lake, timed
from lakehouse.landing.upload import upload
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.ledger import Ledger
from lakehouse.pipeline.silver import clean_days

STREAM = "retail"
FIRST_DAY = date(2024, 1, 1)
DAYS = 91
REACH = 2.5
MEMORY_REACH_MIB = 2048
THREADS = 2

REPEAT_EVERY = 50
"""Every fiftieth line repeats the one before."""

BROKEN_EVERY = 5_003
"""A prime, so that invalid lines fall on all other kinds of lines. None of them is repeated."""

PANDAS_CHUNK = 100_000


@dataclass(frozen=True, slots=True)
class File:
    """A generated file, and the ledger that silver must reach."""

    path: Path
    rows: int
    days: Sequence[date]
    """The event dates of its rows."""
    expected: Ledger


def measure(rows: int, *, folder: Path | None = None, usual: bool = True) -> Iterator[Figure]:
    """Yield the figures of loading a file of `rows` rows.

    With `usual`, pandas is measured as well. With `folder`, the file and the lake stay there.
    """
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-", ignore_cleanup_errors=True) as own:
        place = folder or Path(own)
        place.mkdir(parents=True, exist_ok=True)
        file = generate(place / f"retail-{rows}.csv", rows)
        alone = [_duckdb_alone(file, place)]
        with own_lake(folder and folder / "home", streams=[STREAM], threads=THREADS) as lake:
            loaded = _load(lake, file)
        alone.append(_duckdb_alone(file, place))
        yield from _figures(file, loaded, min(alone, key=lambda spent: spent.seconds))
        if usual:
            spent = _pandas(file, place)
            ours = loaded.bronze.seconds + loaded.silver.seconds
            yield figure("load", "pandas", spent.seconds, "s", of_ours=round(spent.seconds / ours, 2))


def generate(path: Path, rows: int, first: date = FIRST_DAY, days: int = DAYS) -> File:
    """Write retail-shaped rows in the order of time, some 100 bytes each, and count the invalid and repeated ones."""
    with duckdb.connect() as database:
        database.execute(f"set threads = {THREADS}")
        database.execute("set memory_limit = '1GiB'")
        database.execute(f"copy ({_rows_sql(rows, first, days)}) to '{path}' (format csv, header)")
        counted = database.execute(
            f"""select
              count(*) filter ({_BROKEN}),
              count(*) filter ({_REPEATED})
            from range({rows}) as numbers(i)"""
        ).fetchone()
    assert counted is not None
    broken, repeated = counted
    expected = Ledger(rows, rows - broken, rows - broken - repeated, broken, repeated)
    return File(path, rows, [first + timedelta(days=n) for n in range(days)], expected)


_BROKEN = f"(i % {BROKEN_EVERY} = 1 and i % {REPEAT_EVERY} not in (0, {REPEAT_EVERY - 1}))"
_REPEATED = f"(i > 0 and i % {REPEAT_EVERY} = 0)"


def _rows_sql(rows: int, first: date, days: int) -> str:
    """Return a SELECT of invoices with 20 lines each: an eighth are cancellations, a quarter have no customer.

    Each line is a function of its number alone, and no two numbers give the same line.
    """
    return f"""select
      case when invoice % 8 = 0 then 'C' else '' end || (536365 + invoice) as "InvoiceNo",
      (10000 + n % 20 * 450 + hash(n) % 450) || case when n % 20 % 7 = 0 then 'B' else '' end as "StockCode",
      (['WHITE HANGING HEART T-LIGHT HOLDER', 'REGENCY CAKESTAND 3 TIER', 'PACK OF 72 RETROSPOT CAKE CASES',
        'JUMBO BAG RED RETROSPOT', 'ALARM CLOCK BAKELIKE GREEN'])[(1 + hash(n + 1) % 5)::bigint]
        || ' VINTAGE ' || hash(n) % 1000 as "Description",
      case when invoice % 8 = 0 then -1 else 1 end * (1 + hash(n + 2) % 24)::bigint as "Quantity",
      timestamp '{first}' + to_seconds(invoice * 20 * {days * 86400} // {rows}) as "InvoiceDate",
      case when broken then '-' else '' end || printf('%.2f', 0.25 + hash(n + 3) % 2000 / 100.0) as "UnitPrice",
      case when hash(invoice) % 4 > 0 then (12346 + hash(invoice + 1) % 6000)::bigint end as "CustomerID",
      (['United Kingdom', 'United Kingdom', 'United Kingdom', 'France', 'Germany', 'EIRE', 'Netherlands'])[
        (1 + hash(invoice) % 7)::bigint] as "Country"
    from (
      select
        n,
        n // 20 as invoice,
        broken
      from (
        select
          case when {_REPEATED} then i - 1 else i end as n,
          {_BROKEN} as broken
        from range({rows}) as numbers(i)
      )
    )"""


@dataclass(frozen=True, slots=True)
class _Loaded:
    upload: Spent
    bronze: Spent
    silver: Spent
    ledger: Ledger
    peak_mib: float


def _load(lake: Lake, file: File) -> _Loaded:
    stream = lake.stream(STREAM)
    with PeakMemory() as peak:
        (landed, _), uploading = timed(lambda: upload(lake.objects, STREAM, file.path))
        _, bronze = timed(lambda: ingest_days(lake, stream, [landed.day]))
        cleaned, silver = timed(lambda: clean_days(lake, stream, file.days))
    ledgers = cleaned.ledgers.values()
    total = Ledger(*(sum(getattr(ledger, name) for ledger in ledgers) for name in _COUNTS))
    if total != file.expected:
        raise AssertionError(f"silver is wrong: {total}, expected {file.expected}")
    return _Loaded(uploading, bronze, silver, total, peak.mib)


_COUNTS = ("landed", "valid", "silver", "quarantined", "duplicates")


def _duckdb_alone(file: File, folder: Path) -> Spent:
    """Measure DuckDB with its defaults, copying the file to one local zstd Parquet file."""
    target = folder / "alone.parquet"

    def work() -> None:
        with duckdb.connect() as database:
            database.execute(f"set threads = {THREADS}")
            database.execute(f"copy (from read_csv('{file.path}')) to '{target}' (format parquet, compression zstd)")

    _, spent = timed(work)
    target.unlink()
    return spent


def _pandas(file: File, folder: Path) -> Spent:
    """Measure the usual script: chunks of the file through pandas into Parquet, with fixed types and no validation."""
    target = folder / "usual.parquet"

    def work() -> None:
        writer: pq.ParquetWriter | None = None
        types: Any = {"InvoiceNo": "string", "StockCode": "string", "CustomerID": "Int64"}
        for chunk in pd.read_csv(file.path, chunksize=PANDAS_CHUNK, dtype=types, parse_dates=["InvoiceDate"]):
            table = pa.Table.from_pandas(chunk, preserve_index=False)
            writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()

    _, spent = timed(work)
    target.unlink()
    return spent


def _figures(file: File, loaded: _Loaded, alone: Spent) -> Iterator[Figure]:
    ours = loaded.bronze + loaded.silver
    size = {"rows": file.rows, "mib": file.path.stat().st_size >> 20}
    yield figure("load", "duckdb alone", alone.seconds, "s", cpu=round(alone.cpu, 2), **size)
    yield figure("load", "upload", loaded.upload.seconds, "s", cpu=round(loaded.upload.cpu, 2))
    yield figure("load", "bronze", loaded.bronze.seconds, "s", cpu=round(loaded.bronze.cpu, 2))
    yield figure("load", "silver", loaded.silver.seconds, "s", cpu=round(loaded.silver.cpu, 2))
    yield figure("load", "ratio", ours.seconds / alone.seconds, "x", REACH, cpu_ratio=round(ours.cpu / alone.cpu, 2))
    yield figure("load", "ratio with upload", (loaded.upload + ours).seconds / alone.seconds, "x")
    ledger = {name: getattr(loaded.ledger, name) for name in _COUNTS}
    yield figure("load", "silver rows", loaded.ledger.silver, "rows", file.expected.silver, **ledger)
    yield figure("load", "peak memory", loaded.peak_mib, "MiB", MEMORY_REACH_MIB)
