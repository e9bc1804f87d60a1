"""deploy/docker: the Dockerfile is clean, and the processes of the compose file run with its variables."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from lakehouse.http.api_keys import local_key
from lakehouse.processes.ports import free_port
from lakehouse.settings import Settings, is_loopback
from lakehouse_tests.cli.conftest import run
from lakehouse_tests.nightly import NIGHTLY

FOLDER = Path(__file__).parents[2] / "deploy" / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
PASSWORDS = {"LAKEHOUSE_DAGSTER_PASSWORD": "open sesame", "POSTGRES_PASSWORD": "secret"}


def _service() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["lakehouse"]
    return service


def _variables() -> dict[str, str]:
    """Return the variables of the container: the image's, then the service's with its passwords."""
    image = dict(re.findall(r"^\s*(?:ENV )?(LAKEHOUSE_\w+)=(\S+?)(?: \\)?$", DOCKERFILE, re.MULTILINE))
    service = {
        name: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: PASSWORDS[match[1]], value)
        for name, value in _service()["environment"].items()
    }
    return image | service


def test_dockerfile_has_no_findings() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if hadolint is None:
        pytest.skip("needs hadolint, of the dependency group dev")
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_variables_are_settings_that_are_safe() -> None:
    values = {name.removeprefix("LAKEHOUSE_").lower(): value for name, value in _variables().items()}
    known = {name: value for name, value in values.items() if name in Settings.model_fields}
    assert values.keys() - known.keys() == {"pgpassword"}
    settings = Settings.model_validate(known)
    assert not is_loopback(settings.http_host)
    assert not is_loopback(settings.dagster_host)
    assert settings.dagster_password is not None


def test_service_runs_as_no_root_on_a_read_only_file_system() -> None:
    service = _service()
    assert (service["user"], service["read_only"], service["cap_drop"]) == ("10001", True, ["ALL"])
    assert "USER 10001" in DOCKERFILE
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert set(re.findall(r"^(\w+)=", (FOLDER / "env.example").read_text(), re.MULTILINE)) == PASSWORDS.keys()


@pytest.mark.skipif(not NIGHTLY, reason="takes a minute; .ci/run sets NIGHTLY=1 for it")
def test_processes_of_the_compose_file_run(postgres: str, tmp_path: Path) -> None:
    page, http = free_port(), free_port()
    variables = _variables() | {
        "LAKEHOUSE_DAGSTER_POSTGRES_URL": postgres,
        "LAKEHOUSE_DAGSTER_PORT": str(page),
        "LAKEHOUSE_HTTP_PORT": str(http),
    }
    del variables["LAKEHOUSE_HOME"]  # a folder of the test's own
    home = tmp_path / "home"
    up = run(home, *_service()["command"], "--detach", **variables)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        status = run(home, *re.findall(r'"lakehouse", "(status)", "(--json)"', DOCKERFILE)[0], **variables)
        assert status.returncode == 0, status.stdout
        address = "127.0.0.2"  # where a page that listens on 127.0.0.1 is not
        version = {"query": "{ version }"}
        url = f"http://{address}:{page}/graphql"
        assert httpx.post(url, json=version).status_code == 401
        login = ("anyone", PASSWORDS["LAKEHOUSE_DAGSTER_PASSWORD"])
        assert httpx.post(url, json=version, auth=login, timeout=60).json()["data"]["version"]
        events = f"http://{address}:{http}/v1/streams/iot/events"
        assert httpx.post(events, content=b"{}").status_code == 401
        key = {"authorization": f"Bearer {local_key(Settings(home=home))}"}
        assert httpx.post(events, content=b"{}", headers=key).status_code == 202
    finally:
        down = run(home, "down", **variables)
    assert down.stdout == "The lakehouse is down.\n"
