"""Requests generated from the OpenAPI document of the serving routes meet no failure and no undocumented response.

Event streams are left out, because they never end; other tests follow them.
"""

import warnings
from typing import Any

import pytest
import schemathesis

from lakehouse.processes.service import RunningService
from lakehouse.serving.api.app import openapi_app
from lakehouse.serving.api.named_queries import named_queries_router
from lakehouse.serving.query.named_queries import read_queries
from lakehouse_tests.nightly import more_at_night
from lakehouse_tests.sources.http.fuzzing import fuzz

EXAMPLES = more_at_night(4, 60)
INGEST = ("/v1/streams", "/health", "/metrics")
NOT_GENERATED = {"/v1/query"}
"""Generated text is hardly ever valid SQL."""


def _operations() -> list[tuple[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Litestar warns about changes in its next version
        paths: Any = openapi_app(named_queries_router(read_queries())).openapi_schema.to_schema()["paths"]
    return [
        (method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "text/event-stream" not in operation["responses"].get("200", {}).get("content", {})
        and not path.startswith(INGEST)
        and path not in NOT_GENERATED
    ]


@pytest.fixture(scope="module")
def document(serving: RunningService, running: RunningService) -> Any:
    return schemathesis.openapi.from_url(f"{running.url}/schema/openapi.json")


@pytest.mark.parametrize(("method", "path"), _operations())
def test_every_response_is_documented(document: Any, method: str, path: str) -> None:
    assert fuzz(document[path][method], EXAMPLES)
