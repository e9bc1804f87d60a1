"""The files in deploy/observability: a real Prometheus scrapes a real lakehouse and evaluates them."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from deploy.observability.make_dashboards import DASHBOARDS, FOLDER, write
from lakehouse.processes.ports import free_port
from lakehouse_tests.forked import run_forked

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
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a lakehouse that is up and has loaded a file and taken events."""
    folder = tmp_path_factory.mktemp("observed")
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_"))}
    port = free_port()
    variables = mine | {"LAKEHOUSE_HOME": str(folder / "home"), "LAKEHOUSE_HTTP_PORT": str(port)}
    file = folder / "sales.csv"
    file.write_text(HEADER + "1,A1,MUG,6,2011-06-03 08:26:00,2.55,17850,France\n")

    def run(*words: str) -> None:
        done = run_forked(words, variables)
        assert done.returncode == 0, done.stdout + done.stderr

    run("up", "--detach", "--no-ui")
    try:
        run("generate", "--rate", "100", "--duration", "1s")
        run("load", "retail", str(file))
        yield f"127.0.0.1:{port}"
    finally:
        run("down")


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
    except (httpx.TransportError, KeyError) as error:
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
