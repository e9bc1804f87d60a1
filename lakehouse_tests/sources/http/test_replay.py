"""Send files: every row lands once, however often it is sent and wherever a run was interrupted."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.client.client import Client
from lakehouse.client.parcels import Parcel
from lakehouse.client.results import Rejection, SendResult
from lakehouse.contracts.streams import discover
from lakehouse.errors import LakehouseError
from lakehouse.landing.readers.content import InputObject, text_chunks
from lakehouse.processes.service import RunningService
from lakehouse.settings import Settings
from lakehouse.sources.http import replay
from lakehouse.sources.http.client import local_client
from lakehouse.sources.http.replay import DeliveryCounts, send
from lakehouse.sources.http.validation import SqlValidator
from lakehouse.sources.simulation import Faults
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.landing.readers.samples import THREE, object_of, rows_of
from lakehouse_tests.landing.readers.test_csv import BAD, GOOD
from lakehouse_tests.waiting import until

Events = Callable[..., bytes]


@pytest.fixture
def sender(settings: Settings, running: RunningService) -> Iterator[Client]:
    with local_client(settings) as client:
        yield client


def landed(objects: Objects, stream: str) -> int:
    return sum(1 for _ in objects.list(f"realtime/{stream}"))


def rows(objects: Objects, stream: str) -> int:
    """Count the lines of all landing objects of a stream."""
    sources = (
        InputObject(info.key, info.modified, info.size, lambda key=info.key: objects.open(key))  # type: ignore[misc]
        for info in objects.list(f"realtime/{stream}")
    )
    return sum(b"".join(text_chunks(source)).count(b"\n") for source in sources)


def test_file_is_sent_once(
    settings: Settings, sender: Client, objects: Objects, tmp_path: Path, events: Events
) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(events(2500, "iot", 11, Faults(invalid=0.1)))
    stream = discover()["iot"]
    (first,) = send(settings, stream, [path], sender)
    assert (first.delivered.requests, first.delivered.events, first.was_already_sent) == (3, 2500, False)
    assert first.delivered.quarantined > 100
    assert len(first.delivered.reasons) == replay.MAX_REASONS
    before = landed(objects, "iot")
    (second,) = send(settings, stream, [path], sender)
    assert (second.delivered, second.was_already_sent) == (first.delivered, True)
    for progress in (settings.root / "http" / "sent").glob("iot-*"):
        progress.unlink()  # as if sent from another machine
    (third,) = send(settings, stream, [path], sender)
    assert third.delivered == first.delivered
    assert landed(objects, "iot") == before


def test_interrupted_run_resumes_where_it_stopped(
    settings: Settings, sender: Client, tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(events(5000, "logs", 12))
    stream = discover()["logs"]

    def interrupt(_: Path, so_far: DeliveryCounts) -> None:
        if so_far.requests == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(settings, stream, [path], sender, on_progress=interrupt)
    seen = []
    (sent,) = send(settings, stream, [path], sender, on_progress=lambda _, so_far: seen.append(so_far.requests))
    assert (sent.delivered.events, sent.delivered.accepted, seen) == (5000, 5000, [3, 4, 5])


def test_resumed_run_skips_parcels_and_not_requests() -> None:
    split = SendResult(requests=2, events=1000, accepted=990, rejected=10)
    assert DeliveryCounts(1, 5, 5) + split == DeliveryCounts(2, 1005, 995, 10)


def test_first_reasons_of_all_parcels_are_kept_once() -> None:
    first = SendResult(events=3, rejected=3, rejections=tuple(Rejection(1, None, text) for text in "aba"))
    second = SendResult(events=2, rejected=2, rejections=tuple(Rejection(1, None, text) for text in "bcd"))
    assert (DeliveryCounts() + first + second).reasons == ("a", "b", "c")


def test_killed_and_restarted_run_sends_each_event_once(
    settings: Settings, sender: Client, objects: Objects, tmp_path: Path, events: Events
) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(events(6000, "social", 13))
    before = rows(objects, "social")
    command = [sys.executable, "-m", "lakehouse", "send", "social", str(path)]
    variables = os.environ | {"LAKEHOUSE_HOME": str(settings.root)}
    progress = settings.root / "http" / "sent"
    with subprocess.Popen([*command, "--rate", "1500"], env=variables, stdout=subprocess.DEVNULL) as process:
        until(lambda: list(progress.glob("social-*.json")), pause=0.02)
        assert process.poll() is None
        process.kill()
    (interrupted,) = progress.glob("social-*.json")
    assert json.loads(interrupted.read_text())["ended"] is False
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)
    assert rows(objects, "social") - before == 6000


def test_csv_rows_are_sent_as_events(settings: Settings, sender: Client, tmp_path: Path) -> None:
    path = tmp_path / "retail.csv"
    path.write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "1,A,Mug,6,2011-12-01 08:26:00,2.55,17850.0,France\n"
        '2,B,"Cup, ""blue""",-1,2011-12-01 08:28:00,1.5,,France\n'
        "3,C,ragged\n"
    )
    (sent,) = send(settings, discover()["retail"], [path], sender)
    assert (sent.delivered.accepted, sent.delivered.quarantined) == (2, 1)


@pytest.mark.parametrize("case", [*GOOD, *BAD])
def test_sent_row_is_read_as_in_its_file(tmp_path: Path, case: str) -> None:
    data, expected = {**GOOD, **BAD}[case]
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    lines = b"".join(replay.rows_as_lines(THREE, path))
    assert rows_of(THREE, object_of(lines, "x.ndjson")) == expected


def test_rows_are_sent_as_their_file_says(tmp_path: Path) -> None:
    contract = discover()["retail"].contract
    path = tmp_path / "x.csv"
    path.write_text("InvoiceNo;Quantity;Day;Clock;UnitPrice\n1;6;24/12/2011;08:26;2,554\n2;6;24/12/2011;;1\n")
    options = {"decimal": ",", "timeZone": "Europe/Berlin", "timeFormat": "dd/MM/yyyy HH:mm"}
    first, second = replay.rows_as_lines(contract, path, options | {"timeColumns": ["Day", "Clock"]})
    event = {"InvoiceNo": "1", "Quantity": "6", "InvoiceDate": "2011-12-24 07:26:00Z", "UnitPrice": "2.554"}
    assert json.loads(first) == event
    assert json.loads(second)["_defect"] == "invoice_date is not a time in ISO 8601 or dd/MM/yyyy HH:mm"


def test_rows_are_sent_with_the_columns_of_their_folders(
    settings: Settings, sender: Client, objects: Objects, tmp_path: Path
) -> None:
    before = {info.key for info in objects.list("realtime/retail")}
    for country in ("France", "Spain"):
        path = tmp_path / f"Country={country}" / "a.csv"
        path.parent.mkdir()
        path.write_text("InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice\n9,A,6,2011-12-01 08:26:00,2.55\n")
        (sent,) = send(settings, discover()["retail"], [path], sender)
        assert (sent.delivered.accepted, sent.was_already_sent) == (1, False)
    new = [info.key for info in objects.list("realtime/retail") if info.key not in before]
    assert [json.loads(line)["Country"] for key in new for line in objects.get(key).splitlines()] == ["France", "Spain"]


@pytest.mark.parametrize("file_format", ["ndjson", "parquet"])
def test_arrays_are_sent_as_arrays(settings: Settings, sender: Client, tmp_path: Path, file_format: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {"event_time": now, "post_id": "p", "author_id": "a", "platform": "x", "action": "share", "text": "[1]"}
    tags: list[list[str]] = [[], ["a"], ["a\nb", "ü"], ['"', "[1]"]]
    rows = [event | {"event_id": f"{file_format}{n}", "hashtags": value, "lang": "en"} for n, value in enumerate(tags)]
    path = tmp_path / f"a.{file_format}"
    if file_format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (sent,) = send(settings, discover()["social"], [path], sender)
    assert (sent.delivered.accepted, sent.delivered.quarantined) == (len(tags), 0)


@pytest.mark.parametrize("tags", ["a|b", "[1]", '{"a":1}', "[", "[]", '["a"]', ""])
def test_text_that_is_no_list_is_rejected_for_the_reason_of_its_file(tmp_path: Path, tags: str) -> None:
    contract = discover()["social"].contract
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["event_id", "hashtags"], ["1", tags]])
    line = b"".join(replay.rows_as_lines(contract, path)).strip()
    reasons = SqlValidator(contract).reasons([line], datetime.now(UTC)).get(0, [])
    assert ("hashtags is not a list of texts" in reasons) == (tags not in ("[]", '["a"]', ""))
    assert not [reason for reason in reasons if "expected" in reason]


def test_rate_is_kept(sender: Client, events: Events) -> None:
    parcels = [Parcel("iot", events(100, "iot", seed), 100) for seed in range(20)]
    begun = time.monotonic()
    assert sum(result.events for result in sender.deliver(parcels, rate=1000)) == 2000
    assert 1.8 < time.monotonic() - begun < 3.5


def test_rejected_parcel_raises_with_the_reason(settings: Settings, sender: Client) -> None:
    with pytest.raises(LakehouseError, match="no stream 'nothing'"):
        [*sender.deliver([Parcel("nothing", b"{}\n", 1)])]
    with pytest.raises(LakehouseError, match="lakehouse up"):
        local_client(Settings(home=settings.root / "elsewhere"))
    assert replay.PARCEL == 1000
