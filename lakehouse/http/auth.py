"""Access control: which requests need an API key, and what a key permits. See `api_keys` for how keys are stored."""

from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from litestar import Request

from lakehouse.http.api_keys import ApiKey, ApiKeyStore, Scope
from lakehouse.http.problems import Problem
from lakehouse.settings import Settings, is_loopback

CHALLENGE = {"www-authenticate": 'Bearer realm="lakehouse"'}
HOW_TO_GET_A_KEY = "Create one with `lakehouse keys create` and send it as `Authorization: Bearer <key>`."
HOW_TO_GET_AN_ADMIN_KEY = (
    "Create one with `lakehouse keys create NAME --scope admin`, or send that of the local user, `http/local.key` in"
    " LAKEHOUSE_HOME, as `Authorization: Bearer <key>`."
)


def needs_keys(settings: Settings) -> bool:
    """Return whether every request needs an API key."""
    return settings.http_keys == "always" or not is_loopback(settings.http_host)


def unencrypted_warning(settings: Settings) -> str | None:
    """Return a warning if keys, events or the password of Dagster's page would cross a network unencrypted."""
    servers = {
        f"the HTTP server listens on {settings.http_host}": settings.http_host,
        f"the Dagster page listens on {settings.dagster_host}": settings.dagster_host,
    }
    exposed = [server for server, host in servers.items() if not is_loopback(host)]
    if not exposed or settings.http_tls_certificate is not None:
        return None
    return (
        f"Warning: {' and '.join(exposed)} without TLS, so keys, passwords and events can be read on the network."
        " Set LAKEHOUSE_HTTP_TLS_CERTIFICATE and LAKEHOUSE_HTTP_TLS_KEY, or put a proxy in front that ends TLS."
    )


class AccessControl:
    """Authenticates and authorizes requests.

    Without `required`, a request without a key is accepted if it comes from a program on this machine.
    """

    def __init__(self, keys: ApiKeyStore, *, required: bool) -> None:
        self._keys = keys
        self._required = required

    def authenticate(self, request: Request[Any, Any, Any]) -> ApiKey | None:
        """Return the request's key, whatever it permits; None for a request that needs none.

        Raises Problem 401 if the key is unknown, or missing where one is required, and 403 for a request without a key
        that a web page may have sent.
        """
        text = _presented_key(request)
        if text is None:
            if self._required:
                detail = f"This request needs an API key. {HOW_TO_GET_A_KEY}"
                raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers=CHALLENGE)
            _reject_web_pages(request)
            return None
        key = self._keys.find(text)
        if key is None:
            detail = f"This API key is unknown or revoked. {HOW_TO_GET_A_KEY}"
            raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers=CHALLENGE)
        return key

    def authorize(self, request: Request[Any, Any, Any], scope: Scope, *streams: str) -> ApiKey | None:
        """Return the request's key, which is valid for this scope and these streams; None for one that needs none.

        Raises Problem as `authenticate` does, 401 if the scope is `admin` and there is no key, and 403 if the key is not
        valid for the scope or one of the streams.
        """
        key = self.authenticate(request)
        if key is None and scope == "admin":
            detail = f"This request needs an API key of the scope admin, on this machine too. {HOW_TO_GET_AN_ADMIN_KEY}"
            raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers=CHALLENGE)
        if key is not None:
            for stream in streams or (None,):
                if not key.allows(scope, stream):
                    permission = f"{scope} on {stream}" if stream else scope
                    detail = f"The key {key.id} ({key.name}) does not permit {permission}. {HOW_TO_GET_A_KEY}"
                    raise Problem(HTTPStatus.FORBIDDEN, detail)
        return key

    def client_id(self, request: Request[Any, Any, Any]) -> str:
        """Return the id of the request's key; empty for a request without one."""
        key = self._keys.find(_presented_key(request) or "")
        return key.id if key else ""


def _presented_key(request: Request[Any, Any, Any]) -> str | None:
    headers = request.headers  # Litestar parses them anew on each access
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip()
    return headers.get("x-api-key") or None


def _reject_web_pages(request: Request[Any, Any, Any]) -> None:
    """Raise Problem 403 for a page of another origin: any page in the user's browser can reach a loopback port."""
    headers = request.headers
    origin = headers.get("origin")
    is_local = all(is_loopback_url(f"//{host}") for host in headers.getall("host", [""]))
    # A browser sends no Origin with a page's `<script src>` or `<img src>`. A link to a response may be followed.
    is_embedded = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
    if not is_local or is_embedded or (origin and not is_loopback_url(origin)):
        detail = f"Without an API key only programs on this machine may do this. {HOW_TO_GET_A_KEY}"
        raise Problem(HTTPStatus.FORBIDDEN, detail)


@lru_cache(256)
def is_loopback_url(url: str) -> bool:
    """Return whether the host of this URL is reachable from this machine only, and is named without tricks."""
    try:
        parts = urlsplit(url)
        is_plain = "@" not in parts.netloc and parts.port != 0  # raises ValueError for `127.0.0.1:80.evil.example`
        return is_plain and is_loopback(parts.hostname or "")
    except ValueError:
        return False
