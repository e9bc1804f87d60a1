"""S3 objects: round trips, conditional writes under races, and the messages of errors."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.errors import LakehouseError, ObjectNotFoundError, StorageFullError, StorageUnavailableError
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects import multipart
from lakehouse.storage.objects import store as objects_module
from lakehouse.storage.objects.connection import Connection, external_connection
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.storage.aws import aws_settings

MIB = 1 << 20


def test_put_object_is_read_back(objects: Objects) -> None:
    assert objects.put("round/a b é%20.json", [b"one ", b"two"], metadata={"name": "x"}) is True
    info = objects.head("round/a b é%20.json")
    assert info is not None
    assert (info.key, info.size) == ("round/a b é%20.json", 7)
    assert info.modified.tzinfo is not None
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=1)
    assert list(objects.list("round")) == [info]
    assert objects.get(info.key) == b"one two"
    assert objects.read_range(info.key, 2, 3) == b"e t"
    assert objects.read_range(info.key, 4, 100) == b"two"
    assert b"".join(objects.stream(info.key, 4)) == b"one two"
    objects.delete([info.key, "round/never-was"])
    assert objects.head(info.key) is None
    assert list(objects.list("round")) == []


UNUSUAL_NAMES = [
    "a\tb.csv",
    "/x.csv",
    "a//b.csv",
    "a\x01b",
    "a\x7fb",
    "a\rb",
    "./x",
    "../x",
    "a/..",
    "x/",
    "x//",
    "😀\x02",
]


@pytest.fixture(scope="module")
def moto_objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Objects]:
    """Objects of an S3 server that takes every key, as AWS does."""
    from moto.server import ThreadedMotoServer  # takes a second, and few tests need it

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    settings = aws_settings(f"http://{host}:{port}", tmp_path_factory.mktemp("home"))
    yield Objects.from_connection(external_connection(settings))
    moto.stop()


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
def test_unusual_key_is_stored_listed_and_read_as_any_other(moto_objects: Objects, name: str) -> None:
    folder = f"unusual/{name.encode().hex()}"
    key = f"{folder}/{name}"
    assert moto_objects.head(key) is None
    with pytest.raises(ObjectNotFoundError):
        moto_objects.get(key)
    assert [moto_objects.put(key, data, if_absent=True) for data in (b"content", b"other")] == [True, False]
    moto_objects.put(f"{folder}/plain", b"plain")
    info = moto_objects.head(key)
    assert info is not None
    assert info.size == 7
    assert moto_objects.get(key) == b"".join(moto_objects.stream(key, 2)) == b"content"
    assert moto_objects.read_range(key, 3, 3) == b"ten"
    file = moto_objects.open(key)
    assert (bytes(file.read(3)), file.seek(1), bytes(file.read(-1))) == (b"con", 1, b"ontent")
    file.close()
    if name != "x/":  # obstore drops the last slash
        assert {obj.key for obj in moto_objects.list(folder)} == {key, f"{folder}/plain"}
    assert moto_objects.folders("unusual")
    moto_objects.folders(folder)
    moto_objects.delete([key, f"{folder}/plain"])
    assert list(moto_objects.list(folder)) == []


def test_listing_goes_on_over_pages_after_an_unusual_key(
    moto_objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "PAGE_KEYS", 2)
    keys = sorted(f"pages/{name}" for name in ("a", "b", "c\t", "d", "e//f", "g", "h"))
    for key in keys:
        moto_objects.put(key, b"x")
    assert [obj.key for obj in moto_objects.list("pages")] == keys
    assert [obj.key for obj in moto_objects.list("pages", start_after="pages/c\t")] == keys[3:]


@pytest.mark.parametrize("name", ["a\tb.csv", "a\x01b", "a\x7fb", "a\nb", "a\rb"])
def test_embedded_storage_lists_and_reads_unusual_keys(objects: Objects, name: str) -> None:
    folder = f"unusual/{name.encode().hex()}"
    key = f"{folder}/{name}"
    objects.put(key, b"content")
    assert [obj.key for obj in objects.list(folder)] == [key]
    assert objects.get(key) == b"content"
    objects.delete([key])
    assert list(objects.list(folder)) == []


def test_open_object_reads_from_its_start_and_after_seek(objects: Objects) -> None:
    content = bytes(range(256)) * 40_000  # more than an open object holds in memory
    objects.put("opened/object", content)
    opened = objects.open("opened/object")
    pieces = []
    while piece := bytes(opened.read(1_000_003)):
        pieces.append(piece)
    assert b"".join(pieces) == content
    assert opened.seek(-10, 2) == len(content) - 10
    assert bytes(opened.read(4)) == content[-10:-6]
    assert opened.seek(7) == 7
    assert bytes(opened.read(3)) == content[7:10]
    opened.close()
    assert bytes(objects.open("opened/object").read()) == content
    with pytest.raises(ObjectNotFoundError, match="missing/key"):
        objects.open("missing/key")


def test_embedded_server_stores_text_uncompressed(objects: Objects, connection: Connection, tmp_path: Path) -> None:
    assert connection.data_directory is not None
    size = _size(connection.data_directory)
    text = tmp_path / "text.csv"
    text.write_bytes(b"a,b\n" * (10 * MIB))
    objects.put("text/single.csv", text.read_bytes()[: 8 * MIB])
    objects.put_file("text/parts.csv", text)
    assert _size(connection.data_directory) - size >= 48 * MIB
    objects.delete(["text/single.csv", "text/parts.csv"])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_missing_object_is_named(objects: Objects) -> None:
    for read in (objects.get, lambda key: objects.read_range(key, 0, 1), lambda key: list(objects.stream(key))):
        with pytest.raises(ObjectNotFoundError, match="missing/key"):
            read("missing/key")


def test_listing_spans_pages_and_starts_after_a_key(objects: Objects) -> None:
    keys = [f"many/{number:05d}" for number in range(2_100)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: objects.put(key, b"x"), keys))
    assert [info.key for info in objects.list("many")] == keys
    assert [info.key for info in objects.list("many", start_after=keys[1_050])] == keys[1_051:]
    assert [info.key for info in objects.list("man")] == []
    objects.delete(keys)
    assert list(objects.list("many")) == []


def test_exactly_one_of_two_writers_of_a_key_wins(connection: Connection) -> None:
    writers = [Objects.from_connection(connection) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for race in range(20):
            key = f"race/{race}"
            won = list(pool.map(lambda n, key=key: writers[n].put(key, b"%d" % n * 1000, if_absent=True), range(2)))
            assert sorted(won) == [False, True]
            assert writers[0].get(key) == b"%d" % won.index(True) * 1000


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_module, "MULTIPART_THRESHOLD_BYTES", 5 * MIB)
    monkeypatch.setattr(multipart, "PART_BYTES", 5 * MIB)


@pytest.mark.usefixtures("small_parts")
def test_exactly_one_of_two_large_uploads_of_a_key_wins(connection: Connection) -> None:
    objects = Objects.from_connection(connection)
    with ThreadPoolExecutor(2) as pool:
        for race in range(5):
            key = f"large-race/{race}"
            put = lambda n, key=key: objects.put_stream(key, [b"%d" % n * MIB] * 12, if_absent=True)  # noqa: E731
            won = list(pool.map(put, range(2)))
            assert sorted(won) == [False, True]
            assert objects.get(key) == b"%d" % won.index(True) * 12 * MIB


@pytest.mark.usefixtures("small_parts")
def test_large_file_is_stored_whole_or_not_at_all(objects: Objects, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"0123456789abcdef" * MIB)
    assert objects.put_file("large/file", path, if_absent=True) is True
    assert objects.put_file("large/file", path, if_absent=True) is False
    assert objects.put_file("large/file", path) is True
    assert objects.get("large/file") == path.read_bytes()

    def fail_midway() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(MIB)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        objects.put_stream("large/broken", fail_midway())
    assert objects.head("large/broken") is None


def test_aws_variables_of_the_user_are_ignored(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    objects = Objects.from_connection(connection)
    objects.put("environment/a", b"1")
    assert objects.get("environment/a") == b"1"


def test_wrong_key_and_missing_bucket_name_the_setting(connection: Connection) -> None:
    wrong_key = Objects.from_connection(replace(connection, secret_access_key="wrong"))
    missing_bucket = Objects.from_connection(replace(connection, bucket="nowhere"))
    for request in (
        lambda o: o.get("a"),
        lambda o: o.put("a", b""),
        lambda o: list(o.list("a")),
        lambda o: o.delete(["a"]),
    ):
        with pytest.raises(LakehouseError, match="LAKEHOUSE_S3_ACCESS_KEY_ID"):
            request(wrong_key)
    with pytest.raises(LakehouseError, match="LAKEHOUSE_BUCKET"):
        list(missing_bucket.list("a"))


@pytest.mark.usefixtures("small_parts")
def test_stopped_server_raises_unavailable_within_seconds(tmp_path: Path) -> None:
    with storage.running(Settings(home=tmp_path)) as connection:
        objects = Objects.from_connection(connection)
        objects.put("a/b", b"1")
    requests = (
        lambda: objects.put("a/b", b"1"),
        lambda: objects.get("a/b"),
        lambda: objects.head("a/b"),
        lambda: list(objects.list("a/b")),
        lambda: objects.delete(["a/b"]),
        lambda: objects.put_stream("a/b", [bytes(6 * MIB)]),
    )
    with ThreadPoolExecutor(len(requests)) as pool:
        began = time.monotonic()
        failures = [future.exception() for future in [pool.submit(request) for request in requests]]
    assert time.monotonic() - began < 15
    assert [type(failure) for failure in failures] == [StorageUnavailableError] * len(requests)
    assert all("a/b" in str(failure) and "lakehouse up" in str(failure) for failure in failures)


def test_full_disk_is_reported_and_recovers_once_space_is_freed(small_disk: Path) -> None:
    settings = Settings(home=small_disk / "home")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100 * MIB))
    stored: dict[str, bytes] = {}
    with storage.running(settings) as connection:
        objects = Objects.from_connection(connection)
        with pytest.raises(StorageFullError, match=r"Can't write fill/\d+ .* MiB left; free some space"):
            _fill(objects, stored)
    with storage.running(settings) as connection:  # a full disk does not prevent a start, so that objects can be read
        objects = Objects.from_connection(connection)
        assert {key: objects.get(key) for key in stored} == stored
        ballast.unlink()
        _retry_until_stored(lambda: objects.put("fill/after", b"1"))
        assert objects.get("fill/after") == b"1"


def _fill(objects: Objects, stored: dict[str, bytes]) -> None:
    for number in range(40):
        objects.put(f"fill/{number}", bytes([number]) * 4 * MIB)
        stored[f"fill/{number}"] = bytes([number]) * 4 * MIB


def _retry_until_stored(write: Callable[[], object]) -> None:
    for _ in range(30):
        try:
            write()
        except StorageUnavailableError:
            time.sleep(1)
        else:
            return
    raise AssertionError("storage did not notice the free space")
