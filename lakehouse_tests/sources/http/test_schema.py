"""Requests generated from the OpenAPI document get only the responses that it describes."""

from typing import Any

import httpx
import pytest
import schemathesis

from lakehouse.processes.service import RunningService
from lakehouse_tests.sources.http.fuzzing import fuzz

POST = ("POST", "/v1/streams/{stream}/events")


@pytest.fixture(scope="module")
def document(running: RunningService) -> Any:
    return schemathesis.openapi.from_url(f"{running.url}/schema/openapi.json")


@pytest.mark.parametrize(
    ("method", "path"), [POST, ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics")]
)
def test_every_response_is_documented(document: Any, method: str, path: str) -> None:
    statuses = fuzz(document[path][method], 50)
    assert set(statuses) >= ({202, 400, 404} if (method, path) == POST else {200}), statuses


def test_request_body_is_documented(client: httpx.Client) -> None:
    operation = client.get("/schema/openapi.json").json()["paths"]["/v1/streams/{stream}/events"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/x-ndjson", "application/json"}
