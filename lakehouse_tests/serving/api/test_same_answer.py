"""The same question gets the same answer on the command line, over HTTP and in Python, also of the newest events."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import httpx
import pytest

from lakehouse.cli import query as command
from lakehouse.cli.app import main
from lakehouse.contracts.streams import discover
from lakehouse.processes.service import RunningService
from lakehouse.serving.query import sql as query
from lakehouse.serving.query.linked_tail import link_tail
from lakehouse.serving.query.rendering import json_objects
from lakehouse.settings import Settings
from lakehouse.sources.simulation import Faults, Simulator
from lakehouse_tests.waiting import until

NEWEST = "select count(*) as n from serving.unified_social"

QUESTIONS = [
    NEWEST,
    "select * from serving.unified_social order by event_id limit 3",
    "select stream, dt, events from serving.stream_health where stream = 'social' order by all",
    "select 1.50::decimal(9,2) as d, sum(9007199254740993::bigint) as i, interval '1 day' as v, ['x', null] as l",
    "select true as b, null as n, 'nan'::double as f, timestamptz '2025-01-01 00:00:00+02' as t, 'x'::blob as raw",
    "select 1 as a, 2 as a, 'ü[red]\t' as \"odd name\"",
    "select map {'a': {'b': 1.5}} as m, time '01:02:03' as t, date '2025-01-01' as d, uuid() is null as u",
    "select 1 as x where false",
    "with a as (from range(3)) select count(*) as n from a",
    "pivot (select 'a' as x, 2 as n) on x in ('a', 'b') using sum(n)",
    "describe silver.social",
    "select table_name from information_schema.tables where table_schema = 'gold' order by all",
    "select * from information_schema.columns where table_name = 'unified_social' order by ordinal_position",
    "select tables.table_type, count(*) as n from information_schema.tables join information_schema.schemata as s"
    " on s.schema_name = table_schema and table_name = 'information_schema.tables' group by all",
    "select case when range < 3 then range end as x from range(10000) order by range",
]
"""Questions that every road answers."""

OF_NAMES = ["show tables", "show all tables", "show tables from gold", "describe"]
"""Questions that DuckDB itself answers otherwise."""

WRONG = [
    "selec 1",
    "select nonsense from silver.social",
    "select * from silver.nothing",
    "select * from nothing",
    "select * from silver.social at (version => 5)",
    "select * from serving.unified_social at (version => 5)",
    "delete from silver.social",
    "select 1; select 2",
    "",
    "pivot silver.social on platform using count(*)",
    "select error('boom')",
    "select case when range = 9000 then error('boom') else range end from range(10000)",
    "select 'x'::integer",
    "select 'x" + "x" * (257 << 10) + "'",
]


@pytest.fixture(scope="module")
def newest(serving: RunningService, running: RunningService) -> int:
    """The number of events, some of which no table holds yet."""
    with httpx.Client(base_url=running.url) as client:
        before: int = _over_http(client, NEWEST).json()["rows"][0]["n"]
        stream, now = discover()["social"], datetime.now(UTC)
        lines = Simulator(stream.contract, stream.simulate, 7, Faults()).batch(4, now - timedelta(hours=1), now).lines
        posted = client.post(
            "/v1/streams/social/events", content=lines, headers={"content-type": "application/x-ndjson"}
        )
        assert posted.json()["accepted"] == 4
        until(lambda: _over_http(client, NEWEST).json()["rows"][0]["n"] == before + 4, 10)
    return before + 4


def _over_http(client: httpx.Client, sql: str, accept: str = "application/json") -> httpx.Response:
    return client.post("/v1/query", json={"sql": sql}, headers={"accept": accept}, timeout=60)


class CommandLine:
    """`lakehouse query` in this process, because a new one takes a second."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture

    def ask(self, sql: str, form: str = "json") -> tuple[int, str, str]:
        """Return the exit code and what was printed on standard output and standard error."""
        self._patch.setattr(sys, "argv", ["lakehouse", "query", sql, "--format", form])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *self._capture.readouterr()


@pytest.fixture
def command_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    monkeypatch.setattr(command, "get_settings", lambda: settings)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def connected(settings: Settings, newest: int) -> Iterator[duckdb.DuckDBPyConnection]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "get_settings", lambda: settings)
        with query.connect() as connection:
            yield connection


@pytest.mark.parametrize("sql", [*QUESTIONS, *OF_NAMES])
def test_question_has_one_answer_on_every_road(
    api: httpx.Client, command_line: CommandLine, connected: duckdb.DuckDBPyConnection, newest: int, sql: str
) -> None:
    over_http = _over_http(api, sql, "application/x-ndjson")
    assert over_http.status_code == 200, over_http.text
    rows = [json.loads(line) for line in over_http.text.splitlines()]
    code, out, error = command_line.ask(sql)
    assert (code, error, json.loads(out)) == (0, "", rows)
    if sql in QUESTIONS:
        table = connected.execute(sql).to_arrow_table()
        names = list(rows[0]) if rows else table.schema.names
        assert [json.loads(row) for part in json_objects(table, names) for row in part] == rows
    if sql == NEWEST:
        assert rows == [{"n": newest}]


@pytest.mark.parametrize("sql", QUESTIONS[3:8])
def test_csv_is_the_same_on_both_roads(api: httpx.Client, command_line: CommandLine, sql: str) -> None:
    assert command_line.ask(sql, "csv") == (0, _over_http(api, sql, "text/csv").text, "")


@pytest.mark.parametrize("sql", WRONG, ids=lambda sql: sql[:40])
def test_wrong_question_has_one_error_on_both_roads(api: httpx.Client, command_line: CommandLine, sql: str) -> None:
    over_http = _over_http(api, sql)
    assert over_http.status_code == 400
    assert command_line.ask(sql) == (1, "", f"lakehouse: {over_http.json()['detail']}\n")


def test_linked_tail_leaves_nothing_behind(settings: Settings, newest: int) -> None:
    tail = link_tail(settings)
    assert tail.folder is not None
    assert {*tail.files} >= {"social"}
    tail.remove()
    assert not tail.folder.exists()
