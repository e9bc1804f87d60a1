"""The archive of Spark's workers: it has all that tasks import, and little else."""

import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import date
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import pytest

from lakehouse.engine import worker_archive
from lakehouse.engine.shipping import Machine, pack, unpack
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.cleaning import Cleaned, Group, clean_group
from lakehouse.pipeline.day_groups import GroupTables
from lakehouse.storage.iceberg.manifests import select_files
from lakehouse.storage.iceberg.partitions import partitions_filter
from lakehouse_tests.nightly import NIGHTLY
from lakehouse_tests.pipeline.own import Own, noon, payment

MAX_MIB = 400
DAY = date(2025, 11, 20)

RUN_ITEM = """
import json, pickle, sys, time
started = time.perf_counter()
import lakehouse.engine.shipping, lakehouse.pipeline.bronze, lakehouse.pipeline.cut_days, lakehouse.pipeline.exports
seconds = time.perf_counter() - started
import pyarrow as pa
release, machine, item = pickle.load(sys.stdin.buffer)
batch = pa.RecordBatch.from_arrays([pa.array([0], pa.int32()), pa.array([item], pa.binary())], ["number", "item"])
(result,) = lakehouse.engine.shipping.run_items(release, machine, iter([batch]))
names = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"seconds": seconds, "modules": sorted(names), "result": result.column("result")[0].as_py().hex()}))
"""


def test_requirement_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_archive, "EXTRA", "spark")

    def without_pyspark(name: str) -> Distribution:
        if name == "pyspark":
            raise PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(worker_archive, "distribution", without_pyspark)
    with pytest.raises(
        LakehouseError, match=r"The package pyspark is not installed. Run: pip install 'lakehouse\[spark\]'"
    ):
        worker_archive.write_archive(tmp_path / "workers.tar.gz")


@pytest.mark.skipif(not NIGHTLY, reason="packs 400 MiB, which takes 10 s; NIGHTLY=1 runs it")
def test_task_runs_on_the_archive_alone(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    own.land([payment("a", noon(DAY)), payment("a", noon(DAY)), payment("b", noon(DAY))], noon(DAY))
    own.bronze()
    archive = worker_archive.write_archive(tmp_path / "workers.tar.gz")
    assert archive.bytes >> 20 < MAX_MIB
    assert archive.versions["lakehouse"] == version("lakehouse")
    with tarfile.open(tmp_path / "workers.tar.gz") as packed:
        packed.extractall(tmp_path / "workers", filter="data")
    done = _run_on(tmp_path / "workers", own)
    assert not {"dagster", "boto3", "sqlglot", "pandas"} & set(done["modules"])
    cleaned = unpack(bytes.fromhex(done["result"]))
    assert isinstance(cleaned, Cleaned)
    ledger = cleaned.files.ledgers[DAY]
    assert (ledger.landed, ledger.silver, ledger.duplicates) == (3, 2, 1)


def _run_on(folder: Path, own: Own) -> dict[str, Any]:
    tables = GroupTables(*(own.lake.tables.load(f"{layer}.{own.name}") for layer in ("bronze", "silver", "quarantine")))
    files = [*select_files(tables.bronze, partitions_filter("dt", [DAY]))]
    machine = Machine(own.lake.connection, memory_limit_mb=256, spill_mb=256)
    item = pack(machine, clean_group, Group(own.stream.packed("silver"), tables, {DAY: files}, ()))
    child = subprocess.run(
        [sys.executable, "-P", "-S", "-c", RUN_ITEM],
        input=pickle.dumps((version("lakehouse"), pickle.dumps(machine), item)),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr.decode()
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer
