"""Named queries over HTTP: typed in the document, exact in every format, kept as long as nothing they read changes."""

import csv
import io
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow.ipc as ipc
import pytest

from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.refresh import days_to_refresh
from lakehouse.pipeline.silver import clean_days
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection

DAY = datetime(2024, 2, 3, tzinfo=UTC)
LARGEST = "/v1/queries/largest_transactions?until=2024-02-03&days=1"


def _land(settings: Settings, connection: Connection, *amounts: str) -> None:
    lake = Lake(settings, connection)
    stream = lake.stream("financial")
    now = datetime.now(UTC)
    lines = "".join(
        f'{{"event_id": "named-{amount}", "event_time": "2024-02-03T04:05:06Z", "account_id": "a", "amount": "{amount}",'
        ' "currency": "EUR", "type": "payment", "status": "settled"}\n'
        for amount in amounts
    )
    land(lake.objects, "financial", lines.encode(), now=now)
    ingest_days(lake, stream, [now.date()])
    clean_days(lake, stream, days_to_refresh(lake, stream))
    lake.engine.close()


def test_an_answer_is_exact_in_each_format_and_new_when_the_table_is(
    api: httpx.Client, settings: Settings, connection: Connection
) -> None:
    _land(settings, connection, "9999999999999999.99", "0.10")
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while len(api.get(LARGEST).json()["rows"]) != 2 and datetime.now(UTC) < deadline:
        pass
    first = api.get(LARGEST)
    assert [row["amount"] for row in first.json()["rows"]] == ["9999999999999999.99", "0.10"]
    assert first.json()["rows"][0]["event_time"] == "2024-02-03T04:05:06Z"
    again = api.get(LARGEST, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert api.get(LARGEST).content == first.content
    text = api.get(LARGEST, headers={"accept": "text/csv"})
    assert [row["amount"] for row in csv.DictReader(io.StringIO(text.text))] == ["9999999999999999.99", "0.10"]
    arrow = api.get(LARGEST, headers={"accept": "application/vnd.apache.arrow.stream"})
    assert str(ipc.open_stream(arrow.content).read_all().schema.field("amount").type) == "decimal128(18, 2)"
    assert len({first.headers["etag"], text.headers["etag"], arrow.headers["etag"]}) == 3

    _land(settings, connection, "5.00")
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while len((new := api.get(LARGEST)).json()["rows"]) != 3 and datetime.now(UTC) < deadline:
        pass
    assert [row["amount"] for row in new.json()["rows"]] == ["9999999999999999.99", "5.00", "0.10"]
    assert new.headers["etag"] != first.headers["etag"]


def test_every_query_that_ships_answers(api: httpx.Client) -> None:
    for name in read_queries():
        answer = api.get(f"/v1/queries/{name}", params={"stream": "iot"} if name == "daily_metrics" else {})
        assert answer.status_code == 200, (name, answer.text)
        assert answer.json().keys() == {"columns", "rows", "statistics"}


def test_the_list_and_the_document_tell_of_each_query(api: httpx.Client) -> None:
    listed = {one["name"]: one for one in api.get("/v1/queries").json()}
    assert listed.keys() == read_queries().keys()
    paths = api.get("/schema/openapi.json").json()["paths"]
    for name, query in read_queries().items():
        parameters = {one["name"]: one for one in paths[f"/v1/queries/{name}"]["get"]["parameters"]}
        assert parameters.keys() == query.parameters.keys()
        assert {one["name"] for one in listed[name]["parameters"]} == query.parameters.keys()
    days = paths["/v1/queries/funnel"]["get"]["parameters"][0]
    assert (days["in"], days["required"], days["schema"]) == (
        "query",
        False,
        {"type": "integer", "minimum": 1.0, "maximum": 366.0},
    )
    assert "7 unless given" in days["description"]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/queries/nothing", 404, "There is no query 'nothing'; there are customer_segments, daily_metrics"),
        ("/v1/queries/funnel?days=x", 400, "days: 'x' is not an integer"),
        ("/v1/queries/funnel?days=0", 400, "days: 0 is less than 1."),
        ("/v1/queries/funnel?dayz=1", 400, "funnel has no parameter dayz. It has: days, until, country."),
        ("/v1/queries/funnel?days=1&days=2", 400, "days is given twice"),
        ("/v1/queries/daily_metrics", 400, "daily_metrics needs stream."),
    ],
)
def test_what_does_not_fit_is_a_problem_that_says_what_does(
    api: httpx.Client, path: str, status: int, says: str
) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json()["detail"]
