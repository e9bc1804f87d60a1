"""Landing objects are listed by arrival time, whatever their names, and a file's content is uploaded once."""

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import SourceChangedError, StorageUnavailableError, UnreadableSourceError
from lakehouse.landing import upload as upload_module
from lakehouse.landing.keys import LandingObject, arrival_time, realtime_key
from lakehouse.landing.listing import (
    days_landed,
    hours_landed,
    list_day,
    list_days,
    list_hour,
    list_incoming,
    list_realtime_day,
)
from lakehouse.landing.upload import upload
from lakehouse.landing.writer import land
from lakehouse.storage.objects import store as objects_module
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.multipart import open_client
from lakehouse.storage.objects.store import Objects

HOUR = "realtime/iot/year=2025/month=11/day=20/hour=14"
AT_14 = datetime(2025, 11, 20, 14, tzinfo=UTC)
LATER = datetime(2026, 1, 1, tzinfo=UTC)

times = st.datetimes(datetime(2010, 1, 1), datetime(2099, 12, 31), timezones=st.timezones())
own_times = st.datetimes(datetime(2060, 1, 1), datetime(2099, 12, 31), timezones=st.timezones())
"""Far from those at which other tests land shared objects, because these are listed for every stream."""


@pytest.fixture
def stream() -> str:
    """Name a stream that no other test lands in."""
    return f"s{uuid4().hex}"


@given(at=times, number=st.integers(0, 10**9))
def test_realtime_key_keeps_arrival_time_to_the_microsecond(at: datetime, number: int) -> None:
    assert arrival_time(realtime_key("iot", at, "0a1b2c", number), LATER) == at.astimezone(UTC)


@pytest.mark.parametrize(
    ("key", "modified", "arrived_at"),
    [
        (f"{HOUR}/data_1415.json", LATER, AT_14.replace(minute=15)),
        (f"{HOUR}/data_1415-part-3.ndjson.gz", LATER, AT_14.replace(minute=15)),
        (f"{HOUR}/data_141530000007_ab-1.json", LATER, AT_14.replace(minute=15, second=30, microsecond=7)),
        (f"{HOUR}/data_141530000007_ab-1.json.zst", LATER, AT_14.replace(minute=15, second=30, microsecond=7)),
        (f"{HOUR}/deeper/data_1415.json", LATER, AT_14.replace(minute=15)),
        (f"{HOUR}/data_1515.json", LATER, AT_14),
        (f"{HOUR}/data_1475.json", LATER, AT_14),
        (f"{HOUR}/data_\u0661\u0664\u0661\u0665.json", LATER, AT_14),
        (f"{HOUR}/events.json", LATER, AT_14),
        (f"{HOUR}/events.json", AT_14.replace(minute=7), AT_14.replace(minute=7)),
        (f"{HOUR}/events.json", AT_14 + timedelta(hours=1), AT_14),
        ("realtime/iot/year=2025/month=1/day=2/hour=3/data_0304.json", LATER, datetime(2025, 1, 2, 3, 4, tzinfo=UTC)),
        ("realtime/iot/year=2025/month=13/day=2/hour=3/data_0304.json", LATER, LATER),
        ("realtime/iot/data_0304.json", LATER, LATER),
        ("incoming/iot/year=2025/month=01/day=02/hour=03/data_0304.json", LATER, LATER),
        ("incoming/iot/x.csv", LATER.astimezone(timezone(timedelta(hours=5))), LATER),
    ],
)
def test_key_decides_arrival_time_as_far_as_it_can(key: str, modified: datetime, arrived_at: datetime) -> None:
    assert arrival_time(key, modified) == arrived_at
    assert arrival_time(key, modified).tzinfo is UTC


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=own_times, lines=st.binary(min_size=1, max_size=100))
def test_landed_object_is_listed_in_its_hour_and_day(objects: Objects, at: datetime, lines: bytes) -> None:
    stream = f"s{uuid4().hex}"
    landed = land(objects, stream, lines, now=at)
    utc = at.astimezone(UTC)
    assert (landed.arrived_at, landed.size, landed.day) == (utc, len(lines), utc.date())
    assert landed.hour == utc.strftime("%Y-%m-%d-%H:00")
    assert list_hour(objects, stream, landed.hour) == [landed]
    assert list_realtime_day(objects, stream, landed.day) == list_day(objects, stream, landed.day) == [landed]
    assert hours_landed(objects, stream, landed.day, landed.day) == [landed.hour]
    assert days_landed(objects, stream, landed.day - timedelta(days=400), landed.day) == [landed.day]
    assert days_landed(objects, stream, landed.day + timedelta(days=1), landed.day + timedelta(days=1)) == []
    assert objects.get(landed.key) == lines


def test_concurrent_writers_land_every_object_once(objects: Objects, stream: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        landed = list(pool.map(lambda n: land(objects, stream, b"%d\n" % n, now=AT_14), range(200)))
    assert list_hour(objects, stream, "2025-11-20-14:00") == sorted(landed)
    assert sorted(int(objects.get(landing.key)) for landing in landed) == list(range(200))


def test_default_arrival_time_is_now(objects: Objects, stream: str) -> None:
    before = datetime.now(UTC)
    landed = land(objects, stream, b"{}\n")
    assert before <= landed.arrived_at <= datetime.now(UTC)
    assert land(objects, stream, b"{}\n", now=datetime(2025, 1, 1)).arrived_at == datetime(2025, 1, 1, tzinfo=UTC)


def test_foreign_names_are_listed_without_empty_objects(objects: Objects, stream: str) -> None:
    folder = f"realtime/{stream}/year=2025"
    kept = [
        f"{folder}/month=01/day=02/hour=03/a.ndjson.gz",
        f"{folder}/month=1/day=02/hour=3/data_0310.json",
        f"{folder}/month=1/day=2/hour=03/b c%.json",
    ]
    for key in kept:
        objects.put(key, b"{}")
    others = [
        f"{folder}/month=1/day=2/hour=13/data_1300.json",
        f"{folder}/month=1/day=20/hour=3/data_0300.json",
        f"{folder}/month=11/day=2/hour=3/data_0300.json",
        f"realtime/{stream}2/year=2025/month=1/day=2/hour=3/data_0300.json",
    ]
    for key in others:
        objects.put(key, b"{}")
    objects.put(f"{folder}/month=01/day=02/hour=03/marker", b"")
    assert [landing.key for landing in list_hour(objects, stream, "2025-01-02-03:00")] == kept
    assert [landing.key for landing in list_day(objects, stream, date(2025, 1, 2))] == [*kept[:1], *kept[1:], others[0]]
    assert days_landed(objects, stream, date(2025, 1, 1), date(2025, 12, 31)) == [
        date(2025, 1, 2),
        date(2025, 1, 20),
        date(2025, 11, 2),
    ]
    assert hours_landed(objects, stream, date(2025, 1, 2), date(2025, 1, 2)) == ["2025-01-02-03:00", "2025-01-02-13:00"]


def test_list_days_has_both_folders_and_empty_days(objects: Objects, stream: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    uploaded, _ = upload(objects, stream, tmp_path / "a.csv")
    today = uploaded.day
    landed = [land(objects, stream, b"{}", now=uploaded.arrived_at - timedelta(days=days)) for days in (0, 2)]
    assert list_days(objects, stream, today - timedelta(days=3), today) == {
        today - timedelta(days=3): [],
        today - timedelta(days=2): [landed[1]],
        today - timedelta(days=1): [],
        today: [uploaded, landed[0]],
    }
    assert list_incoming(objects, stream) == list_incoming(objects, stream, since=uploaded.arrived_at) == [uploaded]
    assert list_incoming(objects, stream, since=uploaded.arrived_at + timedelta(microseconds=1)) == []


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("2010-12-01.csv", ".csv"),
        ("A.CSV.GZ", ".csv.gz"),
        ("a.b.ndjson.zst", ".ndjson.zst"),
        ("x.parquet", ".parquet"),
        ("x.tar.gz", ".gz"),
        ("x.exe", ""),
        ("noname", ""),
        (".csv", ""),
        ("../ü ä.json", ".json"),
    ],
)
def test_upload_key_is_content_hash_and_known_suffixes(
    objects: Objects, stream: str, tmp_path: Path, name: str, suffix: str
) -> None:
    path = tmp_path / Path(name).name
    path.write_bytes(b"a,b\n")
    landed, is_new = upload(objects, stream, path)
    assert is_new
    assert landed.key == f"incoming/{stream}/{hashlib.sha256(path.read_bytes()).hexdigest()}{suffix}"
    assert objects.get(landed.key) == b"a,b\n"
    assert list_incoming(objects, stream) == [landed]


def test_same_content_is_uploaded_once_for_each_folder_that_names_columns(
    objects: Objects, stream: str, tmp_path: Path
) -> None:
    paths = [tmp_path / name / "a.csv" for name in ("1/Country=France", "2/Country=France", "Country=Spain", "plain")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a,b\n")
    uploads = [upload(objects, stream, path) for path in paths]
    assert [is_new for _, is_new in uploads] == [True, False, True, True]
    folders = [landed.key.split("/")[2:-1] for landed, _ in uploads]
    assert folders == [["Country=France"], ["Country=France"], ["Country=Spain"], []]
    assert {landed for landed, _ in uploads} == set(list_incoming(objects, stream))


@pytest.mark.parametrize("size", [10, 33 << 20])
def test_same_content_is_uploaded_once(objects: Objects, stream: str, tmp_path: Path, size: int) -> None:
    paths = [tmp_path / "first.csv", tmp_path / "again.csv"]
    for path in paths:
        path.write_bytes(b"x" * size)
    with ThreadPoolExecutor(2) as pool:
        uploads = list(pool.map(lambda path: upload(objects, stream, path), paths))
    uploads += [upload(objects, stream, path) for path in paths]
    assert [is_new for _, is_new in uploads].count(True) == 1
    assert {landed for landed, _ in uploads} == set(list_incoming(objects, stream))
    assert uploads[0][0].size == size


@pytest.mark.parametrize("size", [1_000, 40 << 20])
@pytest.mark.parametrize("change", ["appended", "rewritten"])
def test_file_changed_during_upload_is_refused(
    objects: Objects, stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, change: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * size)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    digest = upload_module._digest

    def change_after_hashing(file: object) -> str:
        digest_before = digest(file)  # type: ignore[arg-type]
        with path.open("r+b") as other:
            other.seek(0, os.SEEK_END if change == "appended" else os.SEEK_SET)
            other.write(b"y")
        if change == "rewritten":
            os.utime(path, ns=times)  # as if both writes were within one tick of the file system's clock
        return digest_before

    monkeypatch.setattr(upload_module, "_digest", change_after_hashing)
    with pytest.raises(SourceChangedError, match=r"a\.csv changed"):
        upload(objects, stream, path)
    assert list(objects.list(f"incoming/{stream}")) == []


@pytest.mark.parametrize(("name", "reason"), [("pipe", "no regular file"), ("", "directory"), ("none", "no such file")])
def test_what_is_no_file_is_refused(objects: Objects, stream: str, tmp_path: Path, name: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableSourceError, match=reason):
        upload(objects, stream, tmp_path / name)


def test_growing_file_is_refused(objects: Objects, stream: str, tmp_path: Path) -> None:
    path = tmp_path / "growing.csv"
    path.write_bytes(b"x" * (64 << 20))
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"more\n")
                time.sleep(0.001)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        with pytest.raises(SourceChangedError):
            upload(objects, stream, path)
    finally:
        stop.set()
        writer.join()
    assert list(objects.list(f"incoming/{stream}")) == []


def test_name_that_is_not_utf8_is_kept_in_metadata(
    connection: Connection, objects: Objects, stream: str, tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv"))
    path.write_bytes(b"a\n1\n")
    landed, _ = upload(objects, stream, path)
    response = open_client(connection).head_object(Bucket=connection.bucket, Key=landed.key)
    assert response["Metadata"] == {"name": "caf%E9.csv"}


def test_unreadable_file_raises_error_with_its_path(objects: Objects, stream: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing.csv", tmp_path / "pipe"):
        with pytest.raises(UnreadableSourceError, match=str(path)):
            upload(objects, stream, path)


def test_land_returns_only_after_its_own_lines_are_stored(
    objects: Objects, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = objects_module.Objects.put

    def stored_but_answer_lost(self: Objects, key: str, data: bytes, *, if_absent: bool) -> bool:
        put(self, key, data, if_absent=if_absent)
        return put(self, key, data, if_absent=if_absent)  # as a client that retries

    monkeypatch.setattr(objects_module.Objects, "put", stored_but_answer_lost)
    assert objects.get(land(objects, stream, b"mine").key) == b"mine"

    def taken_by_another(self: Objects, key: str, data: bytes, *, if_absent: bool) -> bool:
        put(self, key, b"not " + data, if_absent=True)
        return put(self, key, data, if_absent=if_absent)

    monkeypatch.setattr(objects_module.Objects, "put", taken_by_another)
    with pytest.raises(StorageUnavailableError):
        land(objects, stream, b"mine")


def test_landing_objects_sort_by_key() -> None:
    first, second = (LandingObject(key, "s", AT_14, 1) for key in ("a", "b"))
    assert sorted([second, first]) == [first, second]
