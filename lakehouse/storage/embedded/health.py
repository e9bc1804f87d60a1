"""Health of storage: whether an embedded server's S3 and catalog answer, and whether an external S3 does."""

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress

import obstore
from obstore.exceptions import BaseError, GenericError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from lakehouse.errors import LakehouseError
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.errors import disk_shortage
from lakehouse.storage.objects.store import open_store

PROBE_SECONDS = 2.0
PROBE_KEY = "health/probe"
PROBE_CONTENT = b"written to probe the health of the storage server"


def is_healthy(connection: Connection) -> bool:
    """Return whether S3 reads back an object and the catalog lists namespaces.

    Another home's server on the same ports is not healthy, because it refuses this home's key.
    """
    return _is_s3_healthy(connection) and _is_catalog_healthy(connection.catalog)


def answers(connection: Connection) -> bool:
    """Return whether an external S3 lists the bucket for these credentials."""
    try:
        next(iter(obstore.list(open_store(connection, seconds=PROBE_SECONDS, retries=0), chunk_size=1)), None)
    except (BaseError, OSError, LakehouseError, ValueError):  # the last for a chain without credentials
        return False
    return True


def _is_s3_healthy(connection: Connection) -> bool:
    # Read an object, because listing works as soon as S3 listens. After a restart it may take five seconds more until the
    # volumes are known again and objects can be read.
    store = open_store(connection, seconds=PROBE_SECONDS, retries=0)
    try:
        return _reads_back(store) or disk_shortage(connection.data_directory) is not None
    except (GenericError, PermissionDeniedError, UnauthenticatedError):
        return False


def _reads_back(store: S3Store) -> bool:
    try:
        return bool(obstore.get(store, PROBE_KEY).bytes())
    except (FileNotFoundError, NotFoundError):
        pass
    with suppress(GenericError, FileNotFoundError, NotFoundError):
        obstore.put(store, PROBE_KEY, PROBE_CONTENT, use_multipart=False)
        return True
    return False


def _is_catalog_healthy(catalog: Mapping[str, str]) -> bool:
    key_id, _, secret = catalog["credential"].partition(":")
    form = {"grant_type": "client_credentials", "client_id": key_id, "client_secret": secret, "scope": "catalog"}
    try:
        login = _request(catalog["oauth2-server-uri"], body=urllib.parse.urlencode(form).encode())
        token = json.loads(login)["access_token"]
        _request(f"{catalog['uri']}/v1/config?warehouse={urllib.parse.quote(catalog['warehouse'])}", token)
        _request(f"{catalog['uri']}/v1/{catalog['prefix']}/namespaces", token)
    except (OSError, ValueError, LookupError):  # URLError and time-outs are OSErrors
        return False
    return True


def _request(url: str, token: str | None = None, body: bytes | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - http on loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PROBE_SECONDS) as response:
        content: bytes = response.read()
    return content
