"""API keys: made, listed, revoked and recognised. They are kept hashed, in one file that only its owner may read."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import msgspec
from filelock import FileLock

from lakehouse.errors import LakehouseError
from lakehouse.processes.atomic_file import write_private
from lakehouse.settings import Settings

Scope = Literal["ingest", "query"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "lh"
SECRET_BYTES = 32
"""Of randomness, so that a plain hash can't be turned back: nothing is there to be guessed."""

RELOAD_SECONDS = 1.0
"""How long a revoked key may still be taken."""


class ApiKey(msgspec.Struct, frozen=True):
    """What is known of a key; its secret is not."""

    id: str
    name: str
    hash: str
    """SHA-256 of the secret, in hexadecimal."""
    scopes: tuple[Scope, ...]
    streams: tuple[str, ...]
    """The streams it is good for; none named means all."""
    created: datetime

    def allows(self, scope: Scope, stream: str | None = None) -> bool:
        """Whether it is good for this."""
        return scope in self.scopes and (not self.streams or stream is None or stream in self.streams)


_FILE = msgspec.json.Decoder(list[ApiKey])


def keys_path(settings: Settings) -> Path:
    """The file of this home's keys."""
    return settings.root / "http" / "keys.json"


def create(
    settings: Settings, name: str, scopes: tuple[Scope, ...] = ("ingest",), streams: tuple[str, ...] = ()
) -> tuple[ApiKey, str]:
    """Make a key; the second value is its text, which can't be had again. Raises LakehouseError for unknown scopes."""
    if not scopes or any(scope not in SCOPES for scope in scopes):
        raise LakehouseError(f"A key has at least one scope of {', '.join(SCOPES)}; got {', '.join(scopes) or 'none'}.")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    key = ApiKey(secrets.token_hex(4), name, _hash(secret), scopes, streams, datetime.now(UTC).replace(microsecond=0))
    path = keys_path(settings)
    with _locked(path):
        _write(path, [*_read(path), key])
    return key, f"{PREFIX}_{key.id}_{secret}"


def revoke(settings: Settings, key_id: str) -> ApiKey:
    """Forget a key; within a second no server takes it. Raises LakehouseError when there is none of this id."""
    path = keys_path(settings)
    with _locked(path):
        keys = _read(path)
        gone = next((key for key in keys if key.id == key_id), None)
        if gone is None:
            raise LakehouseError(f"There is no key {key_id!r}; `lakehouse keys list` shows those there are.")
        _write(path, [key for key in keys if key is not gone])
    return gone


def list_keys(settings: Settings) -> list[ApiKey]:
    """All keys, the oldest first."""
    return _read(keys_path(settings))


def local_key(settings: Settings) -> str:
    """The key of this machine's user, made when there is none; its text is kept in a file of mode 0600."""
    path = keys_path(settings).with_name("local.key")
    with _locked(path):
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            _, text = create(settings, "local", SCOPES)
            write_private(path, text)
            return text


@dataclass(slots=True)
class _Seen:
    at: float = float("-inf")
    stamp: tuple[int, int] | None = None


class ApiKeyStore:
    """Recognises keys; sees within a second what changes in the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, ApiKey] = {}
        self._seen = _Seen()

    def find(self, text: str) -> ApiKey | None:
        """The key of this text, if there is one."""
        self._refresh()
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        if key is None or prefix != PREFIX or not hmac.compare_digest(key.hash, _hash(secret)):
            return None
        return key

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._seen.at < RELOAD_SECONDS:
            return
        self._seen.at = now
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            stamp = None
        if stamp != self._seen.stamp or stamp is None:
            self._keys = {key.id: key for key in _read(self._path)}
            self._seen.stamp = stamp


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _locked(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    return FileLock(path.with_suffix(".lock"), timeout=10)


def _read(path: Path) -> list[ApiKey]:
    try:
        return _FILE.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as problem:
        raise LakehouseError(f"{path} is damaged ({problem}); delete it and make the keys anew.") from problem


def _write(path: Path, keys: list[ApiKey]) -> None:
    write_private(path, msgspec.json.format(msgspec.json.encode(keys)).decode())
