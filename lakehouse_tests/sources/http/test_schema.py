"""What is generated from the server's own OpenAPI document meets no failure, and no answer that is not in it."""

from typing import Any

import httpx
import pytest
import schemathesis

from lakehouse.sources.http.server import RunningService
from lakehouse_tests.sources.http.fuzzing import fuzz

POST = ("POST", "/v1/streams/{stream}/events")


@pytest.fixture(scope="module")
def document(running: RunningService) -> Any:
    return schemathesis.openapi.from_url(f"{running.url}/schema/openapi.json")


@pytest.mark.parametrize(
    ("method", "path"), [POST, ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics")]
)
def test_every_answer_is_in_the_document(document: Any, method: str, path: str) -> None:
    answered = fuzz(document[path][method], 50)
    assert set(answered) >= ({202, 400, 404} if (method, path) == POST else {200}), answered


def test_the_document_says_what_a_body_is(client: httpx.Client) -> None:
    operation = client.get("/schema/openapi.json").json()["paths"]["/v1/streams/{stream}/events"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/x-ndjson", "application/json"}
