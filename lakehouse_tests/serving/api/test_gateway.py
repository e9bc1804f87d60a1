"""The gateway is the one address that clients know. It forwards what it does not serve to the serving process, unchanged."""

import json
import socket
import time

import httpx
import pytest

from lakehouse.processes.service import RunningService
from lakehouse.serving.api import server
from lakehouse.settings import Settings


def test_gateway_forwards_to_the_serving_process(api: httpx.Client, serving: RunningService) -> None:
    forwarded, direct = api.get("/v1/tables"), httpx.get(f"{serving.url}/v1/tables")
    assert (forwarded.status_code, forwarded.json()) == (200, direct.json())
    names = {table["name"] for table in forwarded.json()}
    assert names >= {"silver.iot", "serving.unified_iot", "serving.orders_current", "gold.daily_metrics"}


def test_openapi_document_has_the_routes_of_both_processes(api: httpx.Client, serving: RunningService) -> None:
    document = api.get("/schema/openapi.json").json()
    assert document == httpx.get(f"{serving.url}/schema/openapi.json").json()
    assert set(document["paths"]) >= {"/v1/streams/{stream}/events", "/health/ready", "/metrics", "/v1/tables"}


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v1/streams"])
def test_unknown_path_is_a_problem_in_both_processes(api: httpx.Client, path: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_foreign_origin_is_rejected_by_both_processes(api: httpx.Client, serving: RunningService) -> None:
    headers = {"origin": "https://evil.example"}
    assert api.get("/v1/tables", headers=headers).status_code == 403
    assert httpx.get(f"{serving.url}/v1/tables", headers=headers).status_code == 403


@pytest.mark.parametrize("hosts", [("evil.example", "127.0.0.1"), ("127.0.0.1", "evil.example")])
@pytest.mark.parametrize("path", ["/v1/tables", "/metrics"])
def test_second_host_header_does_not_hide_the_first(api: httpx.Client, path: str, hosts: tuple[str, str]) -> None:
    lines = [f"GET {path} HTTP/1.1", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
    with socket.create_connection((str(api.base_url.host), api.base_url.port or 0)) as client:
        client.sendall("\r\n".join(lines).encode())
        assert client.recv(100).split()[1] in (b"400", b"403")


def test_wrong_key_is_rejected_by_both_processes(api: httpx.Client, serving: RunningService) -> None:
    headers = {"authorization": "Bearer lh_00000000_wrong"}
    assert api.get("/v1/tables", headers=headers).status_code == 401
    assert httpx.get(f"{serving.url}/v1/tables", headers=headers).status_code == 401


def test_bodies_that_never_end_keep_no_other_request_waiting(api: httpx.Client, http_settings: Settings) -> None:
    host, port = str(api.base_url.host), api.base_url.port or 0
    head = f"POST /v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nsel"
    stalled = [socket.create_connection((host, port)) for _ in range(300)]
    try:
        for client in stalled:
            client.sendall(head.encode())
        for path in ("/", "/v1/tables", "/v1/overview"):
            assert api.get(path).status_code == 200
        assert api.post("/v1/query", json={"sql": "select 1 as x"}).json()["rows"] == [{"x": 1}]
        statuses = []
        for client in stalled:
            client.settimeout(http_settings.http_body_seconds + 20)
            statuses.append(client.recv(100).split()[1])
        assert set(statuses) == {b"408", b"429"}
    finally:
        for client in stalled:
            client.close()


def test_ingest_and_lookups_work_without_the_serving_process(api: httpx.Client, settings: Settings) -> None:
    path = server.SERVICE.state_path(settings)
    state = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(state) | {"url": "http://127.0.0.1:9"}))
        time.sleep(1.1)
        unreachable = api.get("/v1/tables")
        path.unlink()
        time.sleep(1.1)
        gone = api.get("/v1/tables")
        for response in (unreachable, gone):
            assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
            assert response.headers["retry-after"]
        assert "lakehouse up" in gone.json()["detail"]
        assert api.get("/health/ready").status_code == 200
        assert api.get("/v1/entities/iot/nobody").status_code == 404
        assert "/v1/streams/{stream}/events" in api.get("/schema/openapi.json").json()["paths"]
    finally:
        path.write_text(state)
        time.sleep(1.1)
    assert api.get("/v1/tables").status_code == 200
