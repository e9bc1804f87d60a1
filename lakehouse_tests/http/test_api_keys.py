"""The key of the local user works whatever became of its file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.http import api_keys as keys
from lakehouse.settings import Settings


def _garbage(file: Path) -> None:
    file.write_bytes(b"\xff\0{")


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _forget(file: Path) -> None:
    file.with_name("keys.json").unlink()


@pytest.mark.parametrize("damage", [_garbage, _empty, _cut, _forget])
def test_local_key_is_replaced_when_its_file_is_damaged_or_keys_are_gone(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    settings = Settings(home=tmp_path / "home")
    before = keys.local_key(settings)
    assert keys.local_key(settings) == before
    damage(keys.keys_path(settings).with_name("local.key"))
    after = keys.local_key(settings)
    assert after == keys.local_key(settings) != before
    found = keys.ApiKeyStore(keys.keys_path(settings)).find(after)
    assert found is not None
    assert found.scopes == keys.SCOPES
