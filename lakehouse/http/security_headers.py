"""Security headers of every response that does not set its own: no guessed types, no embedding, no scripts."""

from collections.abc import Mapping

from litestar.types import ASGIApp, Message, Receive, Scope, Send

DEFAULT_HEADERS = {
    b"x-content-type-options": b"nosniff",
    # Otherwise the `<script src>` of a foreign page could tell a look-up that exists from one that doesn't.
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}


def with_headers(app: ASGIApp, headers: Mapping[bytes, bytes] = DEFAULT_HEADERS) -> ASGIApp:
    """Add headers to each response of an application that lacks them."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                missing = [header for header in headers.items() if header[0] not in names]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        await app(scope, receive, send_with_headers)

    return handle
