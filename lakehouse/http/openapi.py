"""What the OpenAPI document says of refusals. When they happen is decided where they are raised."""

from http import HTTPStatus

from litestar.openapi.datastructures import ResponseSpec

from lakehouse.http.problems import MEDIA_TYPE, ProblemDetails


def refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """These statuses, each with problem details."""
    return {
        status: ResponseSpec(
            data_container=ProblemDetails,
            description=HTTPStatus(status).phrase,
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in statuses
    }
