"""A lakehouse that is up takes up streams, queries and assets that are saved, and loses no event meanwhile."""

import json
import os
import shutil
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.processes.problems import read_problems
from lakehouse.settings import Settings
from lakehouse_tests.cli.conftest import Done
from lakehouse_tests.forked import run_forked
from lakehouse_tests.pipeline.own import copy_stream, noon, payment
from lakehouse_tests.waiting import until

PORT = "18490"
FAST = {
    "LAKEHOUSE_HTTP_PORT": PORT,
    "LAKEHOUSE_HTTP_WORKERS": "2",
    "LAKEHOUSE_QUERY_WORKERS": "1",
    "LAKEHOUSE_WARM_RUNS": "false",
    "COLUMNS": "300",
}
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()
Run = Callable[..., Done]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reload") / "project"


@pytest.fixture(scope="module")
def run(project: Path) -> Iterator[Run]:
    """Run `lakehouse` in the project, which is up."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}

    def run(*words: str) -> Done:
        done = run_forked(words, mine | FAST, project if project.exists() else project.parent)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    run("init", str(project))
    copy_stream(project / "streams", "steady")
    run("up", "--detach", "--no-ui")
    yield run
    run("down")


def _ask(path: str, body: bytes | None = None, kind: str = "application/x-ndjson") -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body, {"content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _post(stream: str, key: str, **fields: Any) -> tuple[int, Any]:
    event = payment(key, datetime.now(UTC), **fields)
    return _ask(f"/v1/streams/{stream}/events", json.dumps(event).encode())


def _query(sql: str) -> Any:
    status, answer = _ask("/v1/query", sql.encode(), "text/plain")
    return answer["rows"] if status == 200 else answer


class _Sender(threading.Thread):
    """Sends events to streams, one after another, and counts those that were acknowledged."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.streams = ["steady"]
        self.acknowledged: Counter[str] = Counter()
        self.refused: Counter[tuple[str, int]] = Counter()
        self.stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stop.wait(0.02):
            for stream in [*self.streams]:
                number += 1
                status, _ = _post(stream, f"sent-{number}")
                if status == 202:
                    self.acknowledged[stream] += 1
                else:
                    self.refused[stream, status] += 1


def _edit(project: Path, old: str, new: str) -> None:
    contract = project / "streams" / "rides" / "contract.odcs.yaml"
    text = contract.read_text()
    assert old in text
    contract.write_text(text.replace(old, new, 1))


def test_streams_are_added_changed_and_removed_while_events_arrive(run: Run, project: Path) -> None:
    sender = _Sender()
    sender.start()
    until(lambda: sender.acknowledged["steady"])
    assert _post("rides", "early")[0] == 404

    copy_stream(project / "streams", "rides")
    until(lambda: _post("rides", "first")[0] == 202, 30)
    sender.streams.append("rides")
    until(lambda: _query("select count(*) > 5 as n from serving.unified_rides") == [{"n": True}])

    # The sensor `late_data` computes again what was computed by another contract.
    file = project / "rides.ndjson"
    file.write_text(
        "".join(json.dumps(payment(f"day-{n}", noon(YESTERDAY), amount=str(n))) + "\n" for n in range(1, 101))
    )
    run("load", "rides", str(file))
    rejected = f"select count(*) as n from quarantine.rides where dt = date '{YESTERDAY}'"
    assert _query(rejected) == [{"n": 0}]
    _edit(project, "{exclusiveMinimum: 0}", "{exclusiveMinimum: 0, maximum: 98}")
    until(lambda: _post("rides", "large", amount="99")[1].get("quarantined") == 1, 30)

    _edit(project, "kind: DataContract", "kind DataContract")
    problem = until(lambda: read_problems(Settings(home=project / ".lakehouse")), 30)[0]
    assert f"Problem: {problem}" in run("status").stdout
    assert problem.startswith(f"{project}/streams/rides/contract.odcs.yaml: line 3: file: is not readable YAML")
    assert _post("rides", "while-broken", amount="99")[1]["quarantined"] == 1
    _edit(project, "kind DataContract", "kind: DataContract")
    until(lambda: not read_problems(Settings(home=project / ".lakehouse")), 30)

    until(lambda: _query(rejected) == [{"n": 2}], 180)

    sender.streams.remove("rides")
    aside = shutil.move(project / "streams" / "rides", project / "rides-aside")
    until(lambda: _post("rides", "gone")[0] == 404, 30)
    shutil.move(aside, project / "streams" / "rides")
    until(lambda: _post("rides", "back")[0] == 202, 30)
    sender.stop.set()
    sender.join()

    assert sender.refused == {}
    run("audit", "--repair")
    run("audit")
    events = "select count(*) filter (event_id like 'sent-%') as n from silver."
    assert _query(f"{events}steady") == [{"n": sender.acknowledged["steady"]}]
    assert _query(f"{events}rides") == [{"n": sender.acknowledged["rides"]}]


def test_query_is_added_and_a_broken_one_stays_as_it_was(run: Run, project: Path) -> None:
    file = project / "queries" / "one.sql"
    file.write_text("/*\nname: one\ndescription: One.\n*/\nselect 1 as n\n")
    until(lambda: _ask("/v1/queries/one")[0] == 200, 30)
    assert "/v1/queries/one" in _ask("/schema/openapi.json")[1]["paths"]
    file.write_text("/*\nname: one\ndescription: One.\n*/\nselect 1 as n from\n")
    problem = until(lambda: read_problems(Settings(home=project / ".lakehouse")), 30)[0]
    assert problem.startswith(f"{file}: ")
    assert _ask("/v1/queries/one")[0] == 200
    file.unlink()
    until(lambda: _ask("/v1/queries/one")[0] == 404, 30)
    assert read_problems(Settings(home=project / ".lakehouse")) == []


def test_broken_asset_is_reported_and_the_loaded_ones_stay(run: Run, project: Path) -> None:
    loaded, log = project / ".lakehouse" / "dagster" / "loaded", project / ".lakehouse" / "logs" / "code-server.log"
    file, before = project / "assets" / "own.py", loaded.read_text()
    file.write_text("import dagster as dg\n\n\n@dg.asset\ndef own() -> None: ...\n")
    until(lambda: loaded.read_text() != before)
    before = loaded.read_text()
    file.write_text("import dagster as dg\n\n1 / 0\n")
    problem = until(lambda: read_problems(Settings(home=project / ".lakehouse")))[0]
    assert problem == f"{file}: line 3: ZeroDivisionError: division by zero"
    assert loaded.read_text() == before
    file.unlink()
    until(lambda: not read_problems(Settings(home=project / ".lakehouse")))
    assert "Traceback" not in log.read_text()
