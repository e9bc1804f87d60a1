"""The events that `lakehouse generate` reports have landed, at the requested rate."""

import json

from lakehouse.processes.service import RunningService
from lakehouse.settings import Settings
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.forked import run_forked
from lakehouse_tests.landing.landed import landed


def test_reported_events_have_landed(settings: Settings, running: RunningService, objects: Objects) -> None:
    before = len(landed(objects, "iot"))
    env = {"LAKEHOUSE_HOME": str(settings.home), "LAKEHOUSE_HTTP_MAX_EVENTS": "150"}
    words = ["generate", "iot", "--rate", "2000", "--duration", "2s", "--invalid", "0.1", "--seed", "3", "--json"]
    answer = run_forked(words, env)
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    counts = report["streams"]["iot"]
    assert report["to"] == running.url
    assert report["seconds"] >= 2 - 150 / 2000
    assert (counts["landed"], counts["valid"] + counts["invalid"]) == (4000, 4000)
    assert 300 < counts["invalid"] < 500
    assert len(landed(objects, "iot")) - before == 4000
