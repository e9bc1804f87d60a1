"""What is generated from the document of the serving routes meets no failure, and no answer that is not in it.

Feeds never end and are followed by hand elsewhere: they are what the document says answers with a stream of events.
"""

import os
import warnings
from typing import Any

import pytest
import schemathesis

from lakehouse.serving.api.app import documented
from lakehouse.serving.api.named_queries import named_router
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.sources.http.server import RunningService
from lakehouse_tests.sources.http.fuzzing import fuzz

EXAMPLES = 60 if os.environ.get("NIGHTLY") else 4
INGEST = ("/v1/streams", "/health", "/metrics")
SENT_BY_HAND = {"/v1/query"}
"""What is generated is hardly ever SQL."""


def _operations() -> list[tuple[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Litestar, about what its next version changes
        paths: Any = documented(named_router(read_queries())).openapi_schema.to_schema()["paths"]
    return [
        (method.upper(), path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "text/event-stream" not in operation["responses"].get("200", {}).get("content", {})
        and not path.startswith(INGEST)
        and path not in SENT_BY_HAND
    ]


@pytest.fixture(scope="module")
def document(serving: RunningService, running: RunningService) -> Any:
    return schemathesis.openapi.from_url(f"{running.url}/schema/openapi.json")


@pytest.mark.parametrize(("method", "path"), _operations())
def test_every_answer_is_in_the_document(document: Any, method: str, path: str) -> None:
    assert fuzz(document[path][method], EXAMPLES)
