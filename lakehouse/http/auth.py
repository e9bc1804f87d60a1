"""Who may do what: a request's key, or its coming from this very machine. How keys are kept is in `keys`."""

from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from litestar import Request

from lakehouse.http.api_keys import ApiKey, ApiKeyStore, Scope
from lakehouse.http.problems import Problem
from lakehouse.settings import Settings

CHALLENGE = {"www-authenticate": 'Bearer realm="lakehouse"'}
MAKE_ONE = "`lakehouse keys create` makes one; send it as `Authorization: Bearer <key>`."


def needs_keys(settings: Settings) -> bool:
    """Whether every request needs an API key."""
    return settings.http_keys == "always" or not is_loopback(settings.http_host)


class AccessControl:
    """Decides on requests; `required` says whether they need a key at all."""

    def __init__(self, keys: ApiKeyStore, *, required: bool) -> None:
        self._keys = keys
        self._required = required

    def authorize(self, request: Request[Any, Any, Any], scope: Scope, *streams: str) -> ApiKey | None:
        """The request's key, good for this; None where none is needed. Raises Problem as `check` does."""
        key = self.authenticate(request)
        if key is not None:
            for stream in streams or (None,):
                if not key.allows(scope, stream):
                    what = f"{scope} on {stream}" if stream else scope
                    detail = f"The key {key.id} ({key.name}) is not good for {what}. {MAKE_ONE}"
                    raise Problem(HTTPStatus.FORBIDDEN, detail)
        return key

    def authenticate(self, request: Request[Any, Any, Any]) -> ApiKey | None:
        """The request's key, good for whatever; None where none is needed. Raises Problem as `check` does."""
        text = _presented(request)
        if text is None:
            if self._required:
                raise Problem(HTTPStatus.UNAUTHORIZED, f"This needs an API key. {MAKE_ONE}", headers=CHALLENGE)
            _refuse_web_pages(request)
            return None
        key = self._keys.find(text)
        if key is None:
            raise Problem(HTTPStatus.UNAUTHORIZED, f"This API key is unknown or revoked. {MAKE_ONE}", headers=CHALLENGE)
        return key

    def client_id(self, request: Request[Any, Any, Any]) -> str:
        """Whose request this is: the id of its key, or nobody's in particular."""
        key = self._keys.find(_presented(request) or "")
        return key.id if key else ""


def _presented(request: Request[Any, Any, Any]) -> str | None:
    headers = request.headers  # made anew each time they are asked for
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip()
    return headers.get("x-api-key") or None


def _refuse_web_pages(request: Request[Any, Any, Any]) -> None:
    """Any page that the user's browser shows could send to a loopback port, were it not for this."""
    headers = request.headers
    origin = headers.get("origin")
    if not _is_of_loopback(f"//{headers.get('host', '')}") or (origin and not _is_of_loopback(origin)):
        raise Problem(HTTPStatus.FORBIDDEN, f"Without an API key only programs on this machine may do this. {MAKE_ONE}")


@lru_cache(256)
def _is_of_loopback(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine and nothing else can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
