"""What is generated from the server's own OpenAPI document meets no failure, and no answer that is not in it."""

from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lakehouse.contracts.streams import discover
from lakehouse.ingest.http.server import Running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
STREAMS = sorted(discover())
POST = ("POST", "/v1/streams/{stream}/events")


@pytest.fixture(scope="module")
def document(running: Running) -> Any:
    return schemathesis.openapi.from_url(f"{running.url}/schema/openapi.json")


@pytest.mark.parametrize(
    ("method", "path"), [POST, ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics")]
)
def test_every_answer_is_in_the_document(document: Any, method: str, path: str) -> None:
    operation, answered = document[path][method], Counter[int]()

    @settings(
        max_examples=50, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def ask(case: Any) -> None:
        stream = (case.path_parameters or {}).get("stream")
        if stream and sum(map(ord, stream)) % 8:  # else hardly any would meet a stream that there is
            case.path_parameters["stream"] = STREAMS[len(stream) % len(STREAMS)]
        answer = case.call()
        answered[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    ask()
    assert set(answered) >= ({202, 400, 404} if (method, path) == POST else {200}), answered


def test_the_document_says_what_a_body_is(client: httpx.Client) -> None:
    operation = client.get("/schema/openapi.json").json()["paths"]["/v1/streams/{stream}/events"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/x-ndjson", "application/json"}
