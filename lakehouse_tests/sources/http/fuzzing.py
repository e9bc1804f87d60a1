"""Generate requests from an OpenAPI document and check the responses against it."""

from collections import Counter
from http import HTTPStatus
from typing import Any

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

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
STREAMS = sorted(discover())


def fuzz(operation: Any, examples: int) -> Counter[int]:
    """Send valid and invalid requests and count the responses by status. Raises the failures that schemathesis finds."""
    statuses = Counter[int]()

    @settings(
        max_examples=examples,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def send(case: Any) -> None:
        stream = (case.path_parameters or {}).get("stream")
        if stream and sum(map(ord, stream)) % 8:  # otherwise hardly any request would name a known stream
            case.path_parameters["stream"] = STREAMS[len(stream) % len(STREAMS)]
        response = case.call()
        if response.status_code == HTTPStatus.REQUEST_URI_TOO_LONG:  # granian refuses it before the application
            return
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    send()
    return statuses
