"""API keys: create, list, revoke and verify them. They are stored hashed, in a file that only its owner may read.

See `auth` for what a request with a key may do.
"""

import hashlib
import hmac
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec
from filelock import FileLock
from msgspec.structs import replace

from lakehouse.audit_log.entries import Event
from lakehouse.audit_log.log import AuditLog, command_line_user
from lakehouse.errors import LakehouseError
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.home import private_home
from lakehouse.settings import Settings

Scope = Literal["ingest", "query", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

DEFAULT_SCOPES: tuple[Scope, ...] = ("ingest", "query")
"""Scopes of a key for which none are named. `admin`, which can delete data, must be."""

PREFIX = "lh"

SECRET_BYTES = 32
"""Random bytes in a key. With so many a plain hash is safe: no dictionary has them."""

_LOCAL_KEY = re.compile(rf"{PREFIX}_[0-9a-f]{{8}}_[A-Za-z0-9_-]{{43}}")

RELOAD_SECONDS = 1.0
"""How long a server may still accept a revoked key."""

LOCK_SECONDS = 10.0


class ApiKey(msgspec.Struct, frozen=True):
    """An API key without its secret."""

    id: str
    name: str
    hash: str
    """SHA-256 of the secret, in hexadecimal."""
    scopes: tuple[Scope, ...]
    streams: tuple[str, ...]
    """The streams that the key is valid for; empty means all."""
    created: datetime

    def allows(self, scope: Scope, stream: str | None = None) -> bool:
        """Return whether the key is valid for this scope and stream."""
        return scope in self.scopes and (not self.streams or stream is None or stream in self.streams)


_FILE = msgspec.json.Decoder(list[ApiKey])


def keys_path(settings: Settings) -> Path:
    """Return the file of this home's keys."""
    return settings.root / "http" / "keys.json"


def create(
    settings: Settings, name: str, scopes: tuple[Scope, ...] = ("ingest",), streams: tuple[str, ...] = ()
) -> tuple[ApiKey, str]:
    """Create a key and return it with its text, which is not stored.

    Raises LakehouseError if `scopes` is empty or has an unknown scope.
    """
    if not scopes or any(scope not in SCOPES for scope in scopes):
        raise LakehouseError(f"A key has at least one scope of {', '.join(SCOPES)}; got {', '.join(scopes) or 'none'}.")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    key = ApiKey(secrets.token_hex(4), name, _hash(secret), scopes, streams, datetime.now(UTC).replace(microsecond=0))
    path = keys_path(settings)
    with _locked(settings, path):
        _write(path, [*_read(path), key])
    _log(settings, "key created", key)
    return key, f"{PREFIX}_{key.id}_{secret}"


def revoke(settings: Settings, key_id: str) -> ApiKey:
    """Delete a key; every server rejects it within `RELOAD_SECONDS`. Raises LakehouseError if no key has this id."""
    path = keys_path(settings)
    with _locked(settings, path):
        keys = _read(path)
        revoked = next((key for key in keys if key.id == key_id), None)
        if revoked is None:
            raise LakehouseError(f"There is no key {key_id!r}. List the keys with: lakehouse keys list")
        _write(path, [key for key in keys if key is not revoked])
    _log(settings, "key revoked", revoked)
    return revoked


def _log(settings: Settings, action: str, key: ApiKey) -> None:
    detail = {"name": key.name, "scopes": key.scopes, "streams": key.streams}
    AuditLog(settings).write(Event(command_line_user(), action, key.id, detail))


def actor_of(key: ApiKey | None) -> str:
    """Return the actor of a request, for the audit log."""
    return f"key {key.id} ({key.name})" if key else "local"


def list_keys(settings: Settings) -> list[ApiKey]:
    """List all keys, oldest first."""
    return _read(keys_path(settings))


def local_key(settings: Settings) -> str:
    """Return the text of this machine's own key, from a file of mode 0600; create the key if there is none.

    A damaged file is replaced, and so is the key if the file of all keys is gone.
    """
    path = keys_path(settings).with_name("local.key")
    with _locked(settings, path):
        text = path.read_bytes().decode(errors="replace").strip() if path.exists() else ""
        if not _LOCAL_KEY.fullmatch(text) or not keys_path(settings).exists():
            _, text = create(settings, "local", SCOPES)
            write_private(path, text)
        else:
            _give_all_scopes(settings, text.split("_")[1])
        return text


def _give_all_scopes(settings: Settings, key_id: str) -> None:
    """Give a key the scopes that were unknown to the release that created it."""
    path = keys_path(settings)
    if any(key.id == key_id and key.scopes != SCOPES for key in _read(path)):
        with _locked(settings, path):
            keys = [replace(key, scopes=SCOPES) if key.id == key_id else key for key in _read(path)]
            _write(path, keys)


class ApiKeyStore:
    """Verifies keys, and reloads their file within a second of a change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, ApiKey] = {}
        self._checked_at = float("-inf")
        self._version: tuple[int, int] | None = None
        """Modification time and inode of the file that was read last."""

    def find(self, text: str) -> ApiKey | None:
        """Find the key with this text; None if it is unknown or revoked."""
        self._reload_if_changed()
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        if key is None or prefix != PREFIX or not hmac.compare_digest(key.hash, _hash(secret)):
            return None
        return key

    def _reload_if_changed(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < RELOAD_SECONDS:
            return
        self._checked_at = now
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_ino)
        except FileNotFoundError:
            version = None
        if version != self._version or version is None:
            self._keys = {key.id: key for key in _read(self._path)}
            self._version = version


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _locked(settings: Settings, path: Path) -> FileLock:
    private_home(settings)
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o700)
    return FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS)


def _read(path: Path) -> list[ApiKey]:
    try:
        return _FILE.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise LakehouseError(f"{path} is damaged ({error}). Delete it and create the keys again.") from error


def _write(path: Path, keys: list[ApiKey]) -> None:
    write_private(path, msgspec.json.format(msgspec.json.encode(keys)).decode())
