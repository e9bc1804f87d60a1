"""A project's file is found from below it, takes settings by their names, and no secrets."""

import json
import os
from pathlib import Path

import pytest

from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LAKEHOUSE_")]:
        monkeypatch.delenv(name)


def _in(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (folder / "lakehouse.toml").write_text(text)
    below = folder / "a" / "b"
    below.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(below)
    get_settings.cache_clear()
    try:
        return get_settings()
    finally:
        get_settings.cache_clear()


def test_file_is_found_upwards_and_its_paths_are_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'streams = ["streams", "/srv/more"]\nhttp_port = 9000\nkinesis = {iot = "devices"}\nrealtime_start = 2025-01-01\n'
    settings = _in(tmp_path, text, monkeypatch)
    assert settings.streams == (tmp_path / "streams", Path("/srv/more"))
    assert (settings.root, settings.http_port) == (tmp_path / ".lakehouse", 9000)
    assert (settings.kinesis, f"{settings.realtime_start}") == ({"iot": "devices"}, "2025-01-01")


def test_environment_takes_precedence_over_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HTTP_PORT", "9001")
    (tmp_path / ".env").write_text(
        "LAKEHOUSE_HTTP_PORT=9002\nLAKEHOUSE_S3_ACCESS_KEY_ID=id\nLAKEHOUSE_S3_SECRET_ACCESS_KEY=s3cret\n"
    )
    for name in ("LAKEHOUSE_S3_ACCESS_KEY_ID", "LAKEHOUSE_S3_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")  # so that it is unset after the test
        monkeypatch.delenv(name)
    settings = _in(tmp_path, 'http_port = 9000\nbucket = "mine"\n', monkeypatch)
    assert (settings.http_port, settings.bucket) == (9001, "mine")
    assert settings.s3_secret_access_key is not None
    assert settings.s3_secret_access_key.get_secret_value() == "s3cret"


def test_named_project_is_used_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lakehouse.toml").write_text("http_port = 9000\n")
    monkeypatch.setenv("LAKEHOUSE_PROJECT", str(tmp_path))
    assert Settings().http_port == 9000
    monkeypatch.setenv("LAKEHOUSE_PROJECT", "none")
    monkeypatch.chdir(tmp_path)
    assert Settings().http_port == 8000
    monkeypatch.setenv("LAKEHOUSE_PROJECT", str(tmp_path / "elsewhere"))
    with pytest.raises(LakehouseError, match=r"elsewhere has no lakehouse\.toml"):
        Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("\nhttp_prot = 1\n", ": line 2: there is no setting 'http_prot'. The nearest is 'http_port'.", id="name"),
        pytest.param("LAKEHOUSE_HTTP_PORT = 1\n", "no setting 'LAKEHOUSE_HTTP_PORT'. The nearest is 'http_port'.", id="variable"),
        pytest.param("[http]\nport = 1\n", ": line 1: there is no setting 'http'.", id="table"),
        pytest.param("project = '.'\n", ": line 1: there is no setting 'project'.", id="project"),
        pytest.param("\n\ns3_secret_access_key = 'x'\n", ": line 3: s3_secret_access_key is a secret. Remove it", id="secret"),
        pytest.param("catalog_uri = 'https://me:pass@example.com'\n", ": line 1: catalog_uri has a password.", id="password"),
        pytest.param("x = \n", "can't be read: Invalid value (at line 1", id="no TOML"),
        pytest.param("http_port = 'many'\n", "lakehouse.toml: http_port: Input should be a valid integer", id="value"),
        pytest.param("streams = 'streams'\n", "lakehouse.toml: streams: Input should be a valid tuple", id="no list"),
    ],
)  # fmt: skip
def test_wrong_file_is_refused_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    with pytest.raises(LakehouseError) as refused:
        _in(tmp_path, text, monkeypatch)
    assert f"{tmp_path}/lakehouse.toml" in str(refused.value)
    assert message in str(refused.value)


def test_every_setting_of_the_template_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse.cli.init import _settings

    lines = [line.removeprefix("# ") for line in _settings().splitlines()]
    pairs = [line for line in lines if " = " in line and line.partition(" ")[0] in Settings.model_fields]
    assert len(pairs) > 40
    settings = _in(tmp_path, "\n".join(pairs), monkeypatch)
    assert settings.model_copy(update={"examples": True, "streams": (), "queries": (), "assets": ()}) == Settings(
        home=settings.home, project=None, examples=True, streams=(), queries=(), assets=()
    )
    assert json.loads(settings.model_dump_json())["examples"] is False
