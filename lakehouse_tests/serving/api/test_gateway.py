"""Users know one address: what the HTTP server does not answer itself comes from the serving process, as it is."""

import json
import time

import httpx
import pytest

from lakehouse.serving.api import server
from lakehouse.settings import Settings
from lakehouse.sources.http.server import RunningService


def test_the_front_door_answers_what_the_serving_process_answers(api: httpx.Client, serving: RunningService) -> None:
    through, direct = api.get("/v1/tables"), httpx.get(f"{serving.url}/v1/tables")
    assert (through.status_code, through.json()) == (200, direct.json())
    names = {one["name"] for one in through.json()}
    assert names >= {"silver.iot", "serving.unified_iot", "serving.orders_current", "gold.daily_metrics"}


def test_one_document_has_the_routes_of_both(api: httpx.Client, serving: RunningService) -> None:
    through = api.get("/schema/openapi.json").json()
    assert through == httpx.get(f"{serving.url}/schema/openapi.json").json()
    assert set(through["paths"]) >= {"/v1/streams/{stream}/events", "/health/ready", "/metrics", "/v1/tables"}


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v1/streams"])
def test_an_unknown_path_is_a_problem_whoever_answers(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_web_page_from_elsewhere_is_refused_on_either_side(api: httpx.Client, serving: RunningService) -> None:
    headers = {"origin": "https://evil.example"}
    assert api.get("/v1/tables", headers=headers).status_code == 403
    assert httpx.get(f"{serving.url}/v1/tables", headers=headers).status_code == 403


def test_a_wrong_key_is_refused_on_either_side(api: httpx.Client, serving: RunningService) -> None:
    headers = {"authorization": "Bearer lh_00000000_wrong"}
    assert api.get("/v1/tables", headers=headers).status_code == 401
    assert httpx.get(f"{serving.url}/v1/tables", headers=headers).status_code == 401


def test_without_a_serving_process_the_answer_says_so_and_ingest_and_look_ups_go_on(
    api: httpx.Client, settings: Settings
) -> None:
    path = server.SERVICE.state_path(settings)
    state = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(state) | {"url": "http://127.0.0.1:9"}))
        time.sleep(1.1)
        refused = api.get("/v1/tables")
        path.unlink()
        time.sleep(1.1)
        gone = api.get("/v1/tables")
        for answer in (refused, gone):
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert answer.headers["retry-after"]
        assert "lakehouse up" in gone.json()["detail"]
        assert api.get("/health/ready").status_code == 200
        assert api.get("/v1/entities/iot/nobody").status_code == 404
        assert "/v1/streams/{stream}/events" in api.get("/schema/openapi.json").json()["paths"]
    finally:
        path.write_text(state)
        time.sleep(1.1)
    assert api.get("/v1/tables").status_code == 200
