"""`bench anomalies` on a few series, and on a folder in NAB's layout."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.bench import anomalies
from lakehouse.bench.planted import planted_series
from lakehouse.errors import ParameterError


def test_detector_does_better_than_z_score_and_range_limits() -> None:
    figures = {figure["figure"]: figure["value"] for figure in anomalies.measure(series=20, seed=3)}
    score = "NAB score at the default threshold"
    assert figures[f"lakehouse: {score}"] > 50
    assert figures["lakehouse: false alerts"] < 1
    assert figures[f"lakehouse: {score}"] > max(figures[f"z-score: {score}"], figures[f"range limits: {score}"])


def test_folder_in_the_layout_of_nab_is_read(tmp_path: Path) -> None:
    planted = list(planted_series(4, 5))
    windows = {}
    for one in planted:
        path = tmp_path / "data" / "made" / f"{one.name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S") for time in one.times]
        lines = [f"{text},{value!r}" for text, value in zip(texts, one.values.tolist(), strict=True)]
        path.write_text("\n".join(["timestamp,value", *lines]))
        windows[f"made/{one.name}.csv"] = [
            [f"{texts[first]}.000000", f"{texts[last]}.000000"] for first, last in one.windows
        ]
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    read = {one.name: one for one in anomalies.read_labelled(tmp_path)}
    for one in planted:
        same = read[f"made/{one.name}.csv"]
        assert same.times.tolist() == one.times.tolist()
        assert same.values.tolist() == one.values.tolist()
        assert same.windows == one.windows


def test_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="layout"):
        list(anomalies.measure(tmp_path))
