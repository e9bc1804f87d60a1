"""A folder that is dropped under `incoming/` gives the rows of a loaded one, and the sensor says what it leaves out."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from lakehouse.assets import resources
from lakehouse.assets.resources import LakeResource
from lakehouse.automation.sensors import incoming_files
from lakehouse.landing.left_out import read_report
from lakehouse.landing.selection import select_files
from lakehouse.landing.upload import upload
from lakehouse_tests.pipeline.own import Own, payment

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
TAKEN = ("a.json", "country=France/b.ndjson", "part-00000")
LEFT_OUT = {
    ".ipynb_checkpoints/a.json": ".ipynb_checkpoints/",
    "_temporary/0/b.json": "_temporary/",
    "a.json.bak": "a.json.bak",
    ".a.json.crc": ".a.json.crc",
    "table/_delta_log/0.json": "table/",
    "table/part-0.json": "table/",
}


def test_dropped_folder_gives_the_rows_and_notes_of_a_loaded_one(
    make_stream: Callable[..., Own], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, dropped = make_stream(), make_stream()
    for name in (*TAKEN, *LEFT_OUT):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(payment(name, NOW)))
        dropped.drop(path.read_bytes(), name)
    selection = select_files([tmp_path / "folder"], tmp_path / "opened")
    for path in selection.files:
        upload(loaded.lake.objects, loaded.name, path)
    rows = []
    for own in (loaded, dropped):
        own.bronze()
        rows.append(sorted(own.ask("select event_id, country from {bronze}")))
    assert rows[0] == rows[1] == [(name, "France" if "=" in name else None) for name in sorted(TAKEN)]

    monkeypatch.setattr(resources, "_lake", lambda: dropped.lake)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, resources={"lake": LakeResource()})
        [skipped] = list(incoming_files(context))  # type: ignore[arg-type]
    report = [entry for entry in read_report(dropped.lake.objects) if entry.stream == dropped.name]
    named = {key.removeprefix(f"incoming/{dropped.name}/"): entry.reason for entry in report for key in entry.objects}
    assert named.keys() == {*LEFT_OUT.values()}
    assert all(entry.summary in str(skipped.skip_message) for entry in report)
    of_load = {file.path.name: file.reason for file in (*selection.left_out, *selection.refused)}
    assert of_load.keys() == {name.rstrip("/") for name in named}
    assert all(of_load[name.rstrip("/")] == reason for name, reason in named.items() if name != "table/")
