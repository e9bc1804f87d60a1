"""Keep each version of the streams' contracts under the home, and tell what changed from one to the next."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lakehouse.contracts.odcs import CONTRACT_FILE
from lakehouse.contracts.streams import Stream
from lakehouse.processes.atomic_file import write_private
from lakehouse.processes.home import private_home
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

FOLLOW_INTERVAL_SECONDS = 0.5
"""Time between two looks at the streams."""

TIME_FORMAT = "%Y%m%dT%H%M%S%fZ"

NAMING = ("property", "name", "element")
"""Keys that name a mapping in a list."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ContractChange(msgspec.Struct, frozen=True):
    """A part of a contract that changed."""

    where: str
    """Such as `amount.required`, `amount` for a field that was added or removed, or `slaProperties.freshness.value`."""
    before: str | None
    """As JSON; null if it was added."""
    after: str | None
    """As JSON; null if it was removed."""


class ContractVersion(msgspec.Struct, frozen=True):
    """A version of a contract."""

    at: datetime
    """Since when it is in use."""
    version: str
    changes: list[ContractChange]
    """What differs from the version before; empty for the first one."""


class ContractInfo(msgspec.Struct, frozen=True):
    """A stream's contract, and how it came to be."""

    text: str
    versions: list[ContractVersion]
    """Newest first."""


def record_contracts(settings: Settings, streams: Iterable[Stream]) -> None:
    """Keep the contract of each stream that differs from the version that was kept last."""
    for stream in streams:
        try:
            content = (stream.folder / CONTRACT_FILE).read_bytes()
            folder = private_home(settings) / "contracts" / stream.name
            folder.mkdir(parents=True, exist_ok=True)
            kept = _kept(folder)
            if not kept or kept[-1].read_bytes() != content:
                write_private(folder / f"{datetime.now(UTC):{TIME_FORMAT}}.yaml", content.decode())
        except (OSError, UnicodeDecodeError) as error:
            log.warning("The contract of %s was not kept: %s", stream.name, error)


async def follow_contracts(settings: Settings, streams: Callable[[], Mapping[str, Stream]]) -> None:
    """Keep the contracts of the streams, now and whenever the streams are others, until cancelled."""
    recorded: Mapping[str, Stream] | None = None
    while True:
        if (latest := streams()) is not recorded:
            recorded = latest
            await asyncio.to_thread(record_contracts, settings, latest.values())
        await asyncio.sleep(FOLLOW_INTERVAL_SECONDS)


def contract_info(settings: Settings, stream: Stream) -> ContractInfo:
    """Return a stream's contract with its kept versions. Raises OSError if it can't be read."""
    versions, before = list[ContractVersion](), None
    for path in _kept(settings.root / "contracts" / stream.name):
        document = _read(path)
        at = datetime.strptime(path.stem, TIME_FORMAT).replace(tzinfo=UTC)
        changes: list[ContractChange] = [] if before is None else [*contract_changes(before, document)]
        versions.append(ContractVersion(at, str(document.get("version", "")), changes))
        before = document
    return ContractInfo((stream.folder / CONTRACT_FILE).read_text(encoding="utf-8"), versions[::-1])


def contract_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[ContractChange]:
    """List what differs between two contracts, as YAML has them."""
    old, new = _fields(before), _fields(after)
    for name in dict.fromkeys([*old, *new]):
        if name in old and name in new:
            yield from _differences(old[name], new[name], f"{name}.")
        else:
            yield ContractChange(name, _json(old.get(name)), _json(new.get(name)))
    yield from _differences(_flat(before), _flat(after), "")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[ContractChange]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield ContractChange(f"{prefix}{name}", _json(old.get(name)), _json(new.get(name)))


def _fields(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        str(field["name"]): _flat(field)
        for schema in document.get("schema") or ()
        for field in schema.get("properties") or ()
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten mappings, and lists of named properties, to paths. The fields of a schema are left out."""
    flat: dict[str, Any] = {}
    for name, part in value.items():
        if name == "properties" or (name == "name" and prefix == ""):
            continue
        if isinstance(part, dict):
            flat |= _flat(part, f"{prefix}{name}.")
        elif isinstance(part, list) and all(isinstance(item, dict) and item.keys() & {*NAMING} for item in part):
            for item in part:
                rest = {key: value for key, value in item.items() if key not in NAMING}
                flat |= _flat(rest, f"{prefix}{name}.{_key(item)}.")
        else:
            flat[f"{prefix}{name}"] = part
    return flat


def _key(item: Mapping[str, Any]) -> str:
    return ".".join(str(item[part]) for part in NAMING if part in item)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, default=str, ensure_ascii=False)


def _kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.yaml"))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # it is a safe one
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}
