"""Guard of Dagster's page: which requests reach it. See `dagster_page` for the process.

The page can run, change and delete everything, and by itself accepts any request. Even on loopback, any web page in the
user's browser can reach it. Where other machines reach it, it always asks for a password.
"""

from base64 import b64decode
from http import HTTPStatus
from secrets import compare_digest
from typing import Any

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Send

from lakehouse.http.auth import is_loopback_url
from lakehouse.http.security_headers import with_headers

GRAPHQL_PATH = "/graphql"

HEADERS = {
    b"cross-origin-resource-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
"""Added to every response, so that no other page embeds Dagster's."""

POLICY_VIOLATION = 1008
"""The close code for a refused websocket, RFC 6455 section 7.4.1. Before the handshake, it becomes status 403."""


class PageGuard:
    """An ASGI application that passes on the requests of Dagster's own page, and of programs on this machine."""

    def __init__(self, app: Any, password: str | None, *, local: bool = True) -> None:
        """Ask for `password`, if there is one, by HTTP Basic authentication with any user name.

        Unless `local`, requests may name any host, because the page then has names that are not known here. Raises
        ValueError if there is no password then.
        """
        if not local and not password:
            raise ValueError("a page that other machines reach needs a password")
        self._app: ASGIApp = with_headers(app, HEADERS)
        self._password = password
        self._local = local

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if scope["type"] == "lifespan" or (refusal := self._refusal(scope)) is None:
            await self._app(scope, receive, send)
        elif scope["type"] == ScopeType.WEBSOCKET:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": None})
        else:
            await refusal(scope, receive, send)

    def _refusal(self, scope: Any) -> ASGIResponse | None:
        """Return the response to a request that must not reach the page; None for one that may."""
        headers = Headers.from_scope(scope)
        if not _is_from_own_page(headers, self._local):
            return _response(
                HTTPStatus.FORBIDDEN, "Only this page itself and programs on this machine may ask for this."
            )
        if self._password is not None and not _is_logged_in(headers, self._password):
            challenge = {"www-authenticate": 'Basic realm="Dagster", charset="UTF-8"'}
            return _response(HTTPStatus.UNAUTHORIZED, "The password is that of LAKEHOUSE_DAGSTER_PASSWORD.", challenge)
        if _is_query_by_get(scope, headers):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "Send GraphQL by POST.", {"allow": "POST"})
        return None


def _is_from_own_page(headers: Headers, local: bool) -> bool:
    """Return whether a request was sent by the page that it is for, by a link, or by a program that is no browser.

    The name in Host tells a page whose own name resolves to loopback (DNS rebinding). Where any name is allowed, the
    password does, because a browser keeps it for the name that it was typed for. A browser sends Origin with each POST and
    websocket. It does not with `<img src>`, but then names the relation of the two sites.
    """
    hosts = headers.getall("host", [])
    if len(hosts) != 1 or not hosts[0] or (local and not is_loopback_url(f"//{hosts[0]}")):
        return False
    origin = headers.get("origin")
    if origin is not None:
        return origin.lower() in (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower())
    is_own = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    return is_own or headers.get("sec-fetch-mode") == "navigate"


def _is_logged_in(headers: Headers, password: str) -> bool:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    try:
        _, _, given = b64decode(credentials).partition(b":")
    except ValueError:
        return False
    return scheme.lower() == "basic" and compare_digest(given, password.encode())


def _is_query_by_get(scope: Any, headers: Headers) -> bool:
    """Return whether Dagster would run GraphQL, which may be a mutation, from the address alone. For HTML it shows an editor."""
    is_graphql = scope["type"] == ScopeType.HTTP and scope["path"].rstrip("/") == GRAPHQL_PATH
    return is_graphql and scope["method"] != "POST" and "text/html" not in headers.get("accept", "")


def _response(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> ASGIResponse:
    return ASGIResponse(body=f"{detail}\n".encode(), status_code=status, media_type="text/plain", headers=headers or {})
