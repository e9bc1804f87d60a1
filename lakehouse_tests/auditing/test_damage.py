"""An audit of a lake with damaged files names each of them, compares everything else, and repairs what it can."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlparse

import duckdb
import pytest
from pyiceberg.table import Table

from lakehouse.auditing import audit as auditing
from lakehouse.auditing.bronze import CONTENT_CHECK
from lakehouse.auditing.data_files import CHECK, LANDING_CHECK
from lakehouse.auditing.findings import Report
from lakehouse.auditing.manifests import CHECK as METADATA
from lakehouse.automation.repair import repair_findings, restore_tables
from lakehouse.chaos.unreliable_network import NetworkFaults, unreliable
from lakehouse.engine.connection import DuckDB, describe, scan_sql
from lakehouse.errors import StorageUnavailableError, UnreadableTableError
from lakehouse.landing.listing import list_day
from lakehouse.landing.upload import upload
from lakehouse.pipeline.exports import export_unified, unified_key
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.open_days import _open_in_tables as open_days_cache
from lakehouse.pipeline.unified_view import HEALTH_COLUMNS, create_views_sql, health_sql, view_names
from lakehouse.pipeline.view_names import HEALTH_VIEW
from lakehouse.serving.query.sql import run_query
from lakehouse.storage.iceberg.manifests import _summarize, select_files
from lakehouse.storage.iceberg.partitions import partitions_filter
from lakehouse.storage.iceberg.readable import check_readable, forget_readable
from lakehouse.storage.objects.store import Objects, object_key
from lakehouse_tests.pipeline.own import Own, noon, payment
from lakehouse_tests.table_files import data_file, manifest, manifest_list, metadata_file

TODAY = datetime.now(UTC).date()
DAYS = [TODAY - timedelta(days=back) for back in (2, 1)]


@pytest.fixture(scope="module")
def own(make_shared_stream: Callable[..., Own]) -> Own:
    """A stream of two days, each computed and committed by itself. Each test leaves it undamaged."""
    own = make_shared_stream()
    for day in DAYS:
        own.land([payment(f"{day}-{n}", noon(day)) for n in range(4)], noon(day))
        own.bronze(day)
        own.refresh_realtime(f"{day}-12:00")
        own.clean(day)
        own.below(day)
        export_unified(own.lake, own.stream, [day])
    return own


def _audited(own: Own) -> Report:
    return auditing.audit(own.lake, [own.stream], DAYS[0], DAYS[-1])


def _table(own: Own, layer: str) -> Table:
    return own.lake.tables.load(f"{layer}.{own.name}")


def _objects(own: Own, table: Table) -> Objects:
    return Objects.from_url(own.lake.connection, table.location())


@contextmanager
def _damaged(own: Own, table: Table, url: str, content: bytes | None = None) -> Iterator[None]:
    """Delete a file of a table, or replace its content, and bring it back in the end."""
    objects, key = _objects(own, table), object_key(url)
    intact = objects.get(key)
    objects.delete([key])
    if content is not None:
        objects.put(key, content)
    forget_readable()
    try:
        yield
    finally:
        objects.put(key, intact)
        forget_readable()


@pytest.mark.parametrize(
    ("layer", "url_of"),
    [
        ("silver", manifest_list),
        ("silver", metadata_file),
        ("bronze", manifest),
    ],
)
def test_lost_metadata_is_named_and_rebuilt(own: Own, layer: str, url_of: Callable[[Table], str]) -> None:
    table = _table(own, layer)
    url = url_of(table)
    _objects(own, table).delete([object_key(url)])
    forget_readable()
    report = _audited(own)
    details = [finding.detail for finding in report.wrong if finding.check == METADATA]
    assert len(details) == 1
    assert details[0].startswith(f"{layer}.{own.name}: its ")
    assert url in details[0]
    assert details[0].endswith("is gone")
    assert f"gold.{own.name}_daily" in report.partitions or layer == "silver"
    assert restore_tables(own.lake, report.findings) == []
    assert all(finding.check != METADATA for finding in _audited(own).findings)
    own.bronze(*DAYS)
    own.refresh_realtime(*(f"{day}-12:00" for day in DAYS), replace=True)
    own.clean(*DAYS)
    own.below(*DAYS)
    export_unified(own.lake, own.stream, DAYS)
    assert _audited(own).wrong == []


def test_scan_of_table_without_metadata_raises(own: Own) -> None:
    table = _table(own, "silver")
    for kind, url in (("manifest", manifest(table)), ("metadata file", metadata_file(table))):
        check_readable(table)
        with (
            _damaged(own, table, url),
            pytest.raises(UnreadableTableError, match=rf"silver.{own.name} can't be read: its {kind} .* is gone"),
        ):
            scan_sql(table)


def test_views_of_unreadable_table_fail_alone(own: Own) -> None:
    silver, bronze, unified = (f"{prefix}{own.name}" for prefix in ("silver.", "bronze.", "serving.unified_"))
    with own.lake.engine.cursor() as cursor:
        described = describe(cursor, health_sql(own.lake))
    assert [(name, kind.lower()) for name, kind in described] == HEALTH_COLUMNS
    table = _table(own, "silver")
    engine = DuckDB.of(own.lake.settings, own.lake.connection)
    with _damaged(own, table, manifest(table)), closing(engine):
        for statement in create_views_sql(own.lake, [silver, bronze, unified, HEALTH_VIEW]):
            engine.database.execute(statement)
        assert engine.database.execute(f"select count(*) from {bronze}").fetchall() == [(8,)]
        (row,) = engine.database.execute(f"from {HEALTH_VIEW} where stream = '{own.name}'").fetchall()
        assert row[:-1] == (own.name, *[None] * 5)
        assert f"silver.{own.name} can't be read: its manifest" in row[-1]
        for view, column in ((silver, "event_id"), (unified, "amount")):
            with pytest.raises(duckdb.Error, match=f"silver.{own.name} can't be read: its manifest"):
                engine.database.execute(f"select max({column}) from {view} where dt > date '2020-01-01'").fetchall()


@pytest.mark.parametrize("url_of", [manifest_list, manifest, metadata_file])
@pytest.mark.parametrize("layer", ["bronze", "realtime", "silver", "gold"])
def test_every_other_view_can_be_made_beside_an_unreadable_table(
    own: Own, layer: str, url_of: Callable[[Table], str]
) -> None:
    table = own.lake.tables.load(f"gold.{own.name}_daily" if layer == "gold" else f"{layer}.{own.name}")
    other = "bronze" if layer == "silver" else "silver"
    engine = DuckDB.of(own.lake.settings, own.lake.connection)
    with _damaged(own, table, url_of(table)), closing(engine):
        open_days_cache.cache_clear()
        _summarize.cache_clear()
        for statement in create_views_sql(own.lake, view_names(own.lake)):
            engine.database.execute(statement)
        assert engine.database.execute(f"select count(*) from {other}.{own.name}").fetchall() == [(8,)]


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _of_another_snapshot(content: bytes) -> bytes:
    last, before = (str(one["snapshot-id"]).encode() for one in reversed(json.loads(content)["snapshots"][-2:]))
    return content.replace(last, before)


def _with_another_name(content: bytes) -> bytes:
    return content.replace(b'"event_id"', b'"event id"')


@pytest.mark.parametrize("damage", [_cut, _of_another_snapshot, _with_another_name])
def test_changed_metadata_file_makes_its_table_unreadable_alone(own: Own, damage: Callable[[bytes], bytes]) -> None:
    table = _table(own, "silver")
    url = metadata_file(table)
    named = re.escape(f"silver.{own.name} can't be read: its metadata file {url} is damaged")
    with _damaged(own, table, url, damage(_objects(own, table).get(object_key(url)))):
        with pytest.raises(UnreadableTableError, match=named):
            run_query(own.lake, f"select count(*) from silver.{own.name}")
        assert list(run_query(own.lake, f"select count(*) from bronze.{own.name}").rows) == [(8,)]
        assert [finding.check for finding in _audited(own).wrong if finding.layer == "silver"] == [METADATA]


def test_damaged_manifest_is_named(own: Own) -> None:
    table = _table(own, "silver")
    with _damaged(own, table, manifest(table), b"not Avro"):
        with pytest.raises(UnreadableTableError, match="is damaged"):
            scan_sql(table)
        assert [finding.check for finding in _audited(own).wrong if finding.layer == "silver"] == [METADATA]


def test_bronze_is_left_alone_when_landing_may_lack_what_it_lost(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(own, "bronze")
    with _damaged(own, table, manifest(table)):
        findings = _audited(own).findings
        monkeypatch.setattr("lakehouse.automation.repair.first_kept_day", lambda *_: TODAY)
        (refusal,) = restore_tables(own.lake, findings)
        assert f"bronze.{own.name} is not repaired: landing is kept since {TODAY}" in refusal
        assert [finding.detail for finding in _audited(own).wrong if finding.check == METADATA]


def test_unreadable_files_are_named_and_everything_else_compared(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(own, "silver")
    (file,) = select_files(table, partitions_filter("dt", [DAYS[0]]))
    (landed,) = list_day(own.lake.objects, own.name, DAYS[1])
    for method in ("open", "stream"):
        _fail_for(monkeypatch, method, {landed.key, object_key(file.file_path)})
    unread = Own(_unread(own), own.stream)
    # Of the same size, so that only reading it shows the damage. Storage's checksum would make it an error 500.
    with _damaged(own, table, file.file_path, bytes(file.file_size_in_bytes)):
        report = _audited(unread)
    unread.lake.engine.close()
    details = {(finding.layer, finding.partition): finding.detail for finding in report.wrong}
    assert details.keys() == {("silver", str(DAYS[0])), ("landing", str(DAYS[1]))}
    assert "a data file of 4 rows can't be read" in details["silver", str(DAYS[0])]
    assert file.file_path in details["silver", str(DAYS[0])]
    assert f"{landed.key} can't be read" in details["landing", str(DAYS[1])]


@pytest.mark.parametrize("layer", ["bronze", "silver", "gold"])
def test_data_file_of_other_bytes_is_named_and_other_days_compared(own: Own, layer: str) -> None:
    table = own.lake.tables.load(f"gold.{own.name}_daily" if layer == "gold" else f"{layer}.{own.name}")
    (file,) = select_files(table, partitions_filter(table.spec().fields[0].name, [DAYS[1]]))
    # Of the same size and returned without an error, so that only decoding it shows the damage.
    content = _objects(own, table).get(object_key(file.file_path))
    with _damaged(own, table, file.file_path, content[:4] + bytes(len(content) - 8) + content[-4:]):
        report = _audited(Own(_unread(own), own.stream))
        with pytest.raises(UnreadableTableError, match=re.escape(file.file_path)) as raised:
            list(run_query(_unread(own), f"from {table.name()[-2]}.{table.name()[-1]}").rows)
    assert ".. " not in str(raised.value)
    assert [(finding.layer, finding.partition, finding.check) for finding in report.wrong] == [
        (layer, str(DAYS[1]), CHECK)
    ]
    assert "its content is damaged" in report.wrong[0].detail
    assert file.file_path in report.wrong[0].detail
    assert report.partitions[f"silver.{own.name}"] >= 1


def _unread(own: Own) -> Lake:
    """Return the same lake with an engine that has read none of its files."""
    lake = Lake(own.lake.settings, own.lake.connection)
    lake.streams = own.lake.streams
    return lake


def test_changed_content_of_a_loaded_file_replaces_no_row(make_stream: Callable[..., Own], tmp_path: Path) -> None:
    own = make_stream()
    at = datetime.now(UTC)
    (tmp_path / "a.ndjson").write_text("\n".join(json.dumps(payment(f"e{n}", at)) for n in range(3)))
    obj, _ = upload(own.lake.objects, own.name, tmp_path / "a.ndjson")
    own.bronze()
    own.clean(at.date())  # so that nothing is left for a run of Dagster
    own.below(at.date())
    before = sorted(own.ask("select event_id, amount from {bronze}"))
    own.lake.objects.put(obj.key, own.lake.objects.get(obj.key).replace(b"12.50", b"99.50", 1))
    findings = auditing.audit(own.lake, [own.stream], obj.day, obj.day).wrong
    assert [(finding.layer, finding.check) for finding in findings] == [("landing", CONTENT_CHECK)]
    assert obj.key in findings[0].detail
    also_bronze = replace(findings[0], layer="bronze", check="landed = bronze")
    repair_findings(own.lake, [*findings, also_bronze])
    assert sorted(own.ask("select event_id, amount from {bronze}")) == before


def _file_of(own: Own, layer: str) -> str:
    """Return the key or URL of the first file of a layer."""
    if layer == "landing":
        return list_day(own.lake.objects, own.name, DAYS[0])[0].key
    if layer == "serving":
        return unified_key(own.stream, DAYS[0])
    return data_file(own.lake.tables.load(f"gold.{own.name}_daily") if layer == "gold" else _table(own, layer))


@pytest.mark.parametrize("layer", ["landing", "bronze", "silver", "gold", "realtime", "serving"])
def test_damaged_file_is_asked_for_few_times(own: Own, layer: str) -> None:
    name = "/".join(_file_of(own, layer).split("/")[-2:])
    network = NetworkFaults(share=1.0, kinds=["error"], only=quote(name).encode())
    with unreliable(urlparse(str(own.lake.connection.endpoint)).port or 0, network, 1) as port:
        connection = replace(own.lake.connection, endpoint=f"http://127.0.0.1:{port}")
        lake = Lake(own.lake.settings, connection)
        lake.streams = own.lake.streams
        report = auditing.audit(lake, [own.stream], DAYS[0], DAYS[-1])
        lake.engine.close()
    assert [(finding.layer, finding.check) for finding in report.wrong] == [
        (layer, LANDING_CHECK if layer == "landing" else CHECK)
    ]
    assert name in report.wrong[0].detail
    # One of the first comparison, two to make sure, and none of the other comparisons, however many would read it.
    assert 2 <= network.counts["error"] <= 5
    assert report.partitions.keys() >= {f"{of}.{own.name}" for of in ("bronze", "silver") if of != layer}


def _fail_for(monkeypatch: pytest.MonkeyPatch, method: str, keys: set[str]) -> None:
    read = getattr(Objects, method)

    def fail(objects: Objects, key: str) -> Any:
        if key in keys:
            raise StorageUnavailableError("HTTP 500")
        return read(objects, key)

    monkeypatch.setattr(Objects, method, fail)


def test_query_names_table_and_file_of_flipped_byte_at_once(own: Own) -> None:
    table = _table(own, "silver")
    (file,) = select_files(table, partitions_filter("dt", [DAYS[0]]))
    with _flipped(own, _objects(own, table).get(object_key(file.file_path))):
        started = time.monotonic()
        with pytest.raises(
            UnreadableTableError, match=rf"silver.{own.name} can't be read: its data file {file.file_path}"
        ):
            list(run_query(own.lake, f"from silver.{own.name}").rows)
        assert time.monotonic() - started < 8  # storage alone is silent for 13 s
        assert list(run_query(own.lake, f"select count(*) from bronze.{own.name}").rows) == [(8,)]


@contextmanager
def _flipped(own: Own, content: bytes) -> Iterator[None]:
    """Flip a bit of the last bytes of an object, where storage keeps it on disk."""
    folder = own.lake.connection.data_directory
    assert folder is not None
    (volume,) = [path for path in folder.rglob("*.dat") if content in path.read_bytes()]
    position = volume.read_bytes().rindex(content) + len(content) - 20  # other tests have brought it back

    def flip() -> None:
        with volume.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1]))

    flip()
    try:
        yield
    finally:
        flip()
