"""The files in deploy/observability: a real Prometheus scrapes a real lakehouse and evaluates them."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from deploy.observability.make_dashboards import DASHBOARDS, FOLDER, write
from lakehouse.processes.ports import free_port
from lakehouse_tests.alerting.conftest import HttpReceiver
from lakehouse_tests.forked import run_forked
from lakehouse_tests.waiting import until

OBSERVABILITY = FOLDER.parent
SECONDS = 60
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs Debian's package prometheus, which .ci/run installs",
)


def test_dashboards_are_those_that_the_script_writes(tmp_path: Path) -> None:
    write(tmp_path)
    written = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert {file.name: file.read_text() for file in FOLDER.iterdir()} == written
    for name in DASHBOARDS:
        panels = json.loads(written[f"{name.lower()}.json"])["panels"]
        assert len(panels) == len(DASHBOARDS[name])


@needs_prometheus
def test_every_alert_fires_while_its_fault_lasts_and_no_longer() -> None:
    tested = {test["name"] for test in yaml.safe_load((OBSERVABILITY / "rules_test.yml").read_text())["tests"]}
    groups = yaml.safe_load((OBSERVABILITY / "rules.yml").read_text())["groups"]
    assert tested == {rule["alert"] for group in groups for rule in group["rules"]}
    done = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yml"], cwd=OBSERVABILITY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def receiver() -> Iterator[HttpReceiver]:
    """A receiver of the lakehouse's alerts."""
    receiver = HttpReceiver()
    yield receiver
    receiver.close()


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="module")
def run(folder: Path, receiver: HttpReceiver) -> Run:
    """Run `lakehouse` with a home whose alerts go to the receiver."""
    alerts = folder / "alerts.toml"
    alerts.write_text(f'[receivers.team]\nkind = "webhook"\nurl = "{receiver.url}"\n')
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    home = {"LAKEHOUSE_HOME": str(folder / "home"), "LAKEHOUSE_HTTP_PORT": str(free_port())}
    variables = mine | home | {"LAKEHOUSE_ALERTS": str(alerts)}

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return run_forked(words, variables)

    return run


def _load(run: Run, folder: Path, name: str, *rows: str) -> "subprocess.CompletedProcess[str]":
    file = folder / name
    file.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return run("load", "retail", str(file))


@pytest.fixture(scope="module")
def lake(folder: Path, run: Run) -> Iterator[str]:
    """Return the address of a lakehouse that is up and has loaded a file and taken events."""
    done = run("up", "--detach", "--no-ui")
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        assert run("generate", "--rate", "100", "--duration", "1s").returncode == 0
        assert _load(run, folder, "sales.csv", "1,A1,MUG,6,2011-06-03 08:26:00,2.55,17850,France").returncode == 0
        processes = json.loads(run("status", "--json").stdout)["processes"]
        (url,) = (process["url"] for process in processes if process["name"] == "http")
        yield url.removeprefix("http://")
    finally:
        assert run("down").returncode == 0


@pytest.fixture(scope="module")
def prometheus(lake: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(OBSERVABILITY / file) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [lake]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (
        subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stderr=subprocess.DEVNULL
        ) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client
        server.terminate()


def _panels_without_data(prometheus: httpx.Client) -> list[str]:
    try:
        return [
            f"{name}: {title}"
            for name, panels in DASHBOARDS.items()
            for title, query, _, _ in panels
            if not prometheus.get("/api/v1/query", params={"query": query.replace("$stream", ".*")}).json()["data"][
                "result"
            ]
        ]
    except (httpx.TransportError, ValueError, KeyError) as error:  # it is still starting
        return [str(error)]


@needs_prometheus
def test_every_panel_has_data(lake: str, prometheus: httpx.Client) -> None:
    until = time.monotonic() + SECONDS
    while (missing := _panels_without_data(prometheus)) and time.monotonic() < until:
        httpx.post(f"http://{lake}/v1/query", json={"sql": "select 1 as n"})
        time.sleep(1)
    assert missing == []


@needs_prometheus
def test_lakehouse_that_is_well_has_no_alert(prometheus: httpx.Client) -> None:
    alerts = prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
    assert [alert for alert in alerts if alert["state"] == "firing"] == []


@needs_prometheus
def test_metrics_are_in_the_format_of_prometheus(lake: str) -> None:
    text = httpx.get(f"http://{lake}/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_causes_are_told_to_people_within_seconds(lake: str, run: Run, folder: Path, receiver: HttpReceiver) -> None:
    hot = {"event_id": "h1", "event_time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "device_id": "kiln"}
    event = hot | {"metric": "temperature", "value": 9000, "unit": "C"}
    assert httpx.post(f"http://{lake}/v1/streams/iot/events", json=[event]).status_code == 202
    valid = "1,A1,MUG,5,2011-06-04 08:26:00,2.55,17850,France"
    _load(run, folder, "bad.csv", valid, *(valid.replace(",5,", f",x{number},") for number in range(9)))
    wanted = {"partition_blocked", "stream_alert"}
    until(
        lambda: (
            wanted <= {body["cause"] for body in receiver.bodies if "kiln" in str(body) or body["stream"] == "retail"}
        )
    )
    told = {body["cause"]: body for body in receiver.bodies if body["state"] == "open" and body["cause"] in wanted}
    assert [(told[cause]["stream"], told[cause]["severity"]) for cause in sorted(wanted)] == [
        ("retail", "critical"), ("iot", "critical"),
    ]  # fmt: skip
    open_causes = json.loads(run("alerts", "list", "--json").stdout)["causes"]
    assert wanted <= {cause["cause"] for cause in open_causes}
    lines = {
        'lakehouse_last_run_failed{job_name="refresh",stream="retail"} 1.0',
        'lakehouse_alert_messages_total{receiver="team"} ',
    }
    until(lambda: all(line in httpx.get(f"http://{lake}/metrics").text for line in lines))
