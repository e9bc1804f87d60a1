"""The long run reports growth after warm-up, and fails where a process grows beyond its bound."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakehouse.bench import long_run
from lakehouse.bench.long_run import Memory, growth_per_hour
from lakehouse.cli.app import app
from lakehouse.errors import LakehouseError
from lakehouse.http.metrics import EventCounts
from lakehouse.settings import Settings


def test_growth_is_the_slope_of_processes_that_stay() -> None:
    samples = [Memory(n / 10, {"serving": 300.0, "reader": 100.0 + n, "run": float(n)}) for n in range(9)]
    samples.append(Memory(0.9, {"serving": 300.0, "reader": 109.0}))
    assert growth_per_hour(samples) == pytest.approx({"reader": 10.0, "serving": 0.0})
    assert list(growth_per_hour(samples)) == ["reader", "serving"]
    assert growth_per_hour(samples[:1]) == {}


def _run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sizes: Iterator[float], statuses: dict[int, int]) -> Any:
    monkeypatch.setattr(long_run, "_lakehouse", lambda _: nullcontext(Settings(home=tmp_path)))
    monkeypatch.setattr(long_run, "_readers", lambda _: nullcontext(Counter(statuses)))
    monkeypatch.setattr(long_run, "_memory", lambda _: {"serving": next(sizes)})
    monkeypatch.setattr(long_run, "read_event_counts", lambda _: {"iot": EventCounts(5, 0)})
    return CliRunner().invoke(app, ["bench", "long-run", "--minutes", "0.01"])


def test_steady_memory_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # It grows while it warms up, and no more.
    sizes = itertools.chain(range(0, 200, 20), itertools.repeat(200.0))
    result = _run(monkeypatch, tmp_path, iter(map(float, sizes)), {200: 9, 429: 1})
    assert result.exit_code == 0, result.output
    figures = {figure["figure"]: figure for figure in map(json.loads, result.stdout.splitlines())}
    assert figures["growth of serving"] | {"value": 0.0, "reach": 64.0, "peak_mib": 200} == figures["growth of serving"]
    assert (figures["events stored"]["value"], figures["answers that failed"]["value"]) == (5, 0)


@pytest.mark.parametrize(
    ("growth", "statuses", "message"),
    [(1.0, {200: 9}, "These grew by more than 64 MiB an hour: serving"), (0.0, {503: 2}, "2 of 2 answers failed")],
)
def test_growth_or_failed_answers_fail_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, growth: float, statuses: dict[int, int], message: str
) -> None:
    result = _run(monkeypatch, tmp_path, itertools.count(300.0, growth), statuses)
    assert isinstance(result.exception, LakehouseError)
    assert message in str(result.exception)
