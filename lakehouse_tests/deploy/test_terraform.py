"""deploy/aws by Terraform itself: formatted, valid, planned without an account, and by night applied to moto and destroyed."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from lakehouse_tests.cli.conftest import run
from lakehouse_tests.deploy.moto_for_terraform import moto_for_terraform, override
from lakehouse_tests.nightly import NIGHTLY

SOURCE = Path(__file__).parents[2] / "deploy" / "aws"
REGION = "eu-central-1"
SECONDS = 580
NO_CHANGE, CHANGES = 0, 2

Terraform = Callable[..., subprocess.CompletedProcess[str]]


def _plugins() -> list[str]:
    """Name the folder with the provider, if the machine has one; else Terraform asks its registry."""
    mirrors = [Path(os.environ["TF_PLUGIN_MIRROR"])] if os.environ.get("TF_PLUGIN_MIRROR") else Path("/opt").glob("*")
    found = [mirror for mirror in mirrors if (mirror / "registry.terraform.io" / "hashicorp" / "aws").is_dir()]
    return [f"-plugin-dir={found[0]}"] if found else []


def _runner(folder: Path) -> Terraform:
    # The file of this variable may configure another mirror, or be missing.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CLI_CONFIG_FILE"}

    def terraform(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return terraform


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform in a copy of the folder, with its provider."""
    if shutil.which("terraform") is None:
        pytest.skip("needs terraform 1.11 or newer")
    folder = tmp_path_factory.mktemp("terraform") / "aws"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    terraform = _runner(folder)
    ready = terraform("init", "-backend=false", "-no-color", "-input=false", *_plugins())
    if ready.returncode:
        pytest.skip(f"needs the provider hashicorp/aws: {ready.stderr.strip().splitlines()[-1]}")
    return terraform


def test_files_are_formatted_and_valid(terraform: Terraform) -> None:
    formatted = terraform("fmt", "-check", "-recursive", "-diff")
    assert formatted.returncode == 0, formatted.stdout
    valid = terraform("validate", "-no-color")
    assert valid.returncode == 0, valid.stderr


def test_plans_hold_what_they_promise(terraform: Terraform) -> None:
    tested = terraform("test", "-no-color")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.fixture
def applied(tmp_path: Path) -> Iterator[tuple[Terraform, str]]:
    """Terraform in a copy of the folder that talks to moto, and moto's URL."""
    if shutil.which("terraform") is None:
        pytest.skip("needs terraform 1.11 or newer")
    with moto_for_terraform() as endpoint:
        folder = tmp_path / "aws"
        shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "tests"))
        (folder / "moto_override.tf").write_text(override(endpoint))
        acm = boto3.client(
            "acm", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
        )
        values = {
            "region": REGION,
            "certificate_arn": acm.request_certificate(DomainName="lake.example")["CertificateArn"],
            "alert_email": "team@example.com",
            "allowed_cidrs": ["203.0.113.0/24"],
            "kinesis_streams": {"financial": "payments"},
            "firehose_streams": ["iot"],
            "lookups_table": True,
            "operator_principals": ["arn:aws:iam::123456789012:user/anna"],
            "deletion_protection": False,
        }
        (folder / "terraform.tfvars.json").write_text(json.dumps(values))
        terraform = _runner(folder)
        ready = terraform("init", "-no-color", "-input=false", *_plugins())
        if ready.returncode:
            pytest.skip(f"needs the provider hashicorp/aws: {ready.stderr.strip().splitlines()[-1]}")
        yield terraform, endpoint


@pytest.mark.skipif(not NIGHTLY, reason="takes some five minutes; .ci/run sets NIGHTLY=1 for it")
def test_applied_changed_used_and_destroyed(applied: tuple[Terraform, str], tmp_path: Path) -> None:
    terraform, endpoint = applied
    options = ("-no-color", "-input=false", "-parallelism=20")
    _ok(terraform("apply", "-auto-approve", *options))
    changed = '-var=allowed_cidrs=["203.0.113.0/24", "198.51.100.0/24"]'
    assert terraform("plan", "-detailed-exitcode", *options, changed).returncode == CHANGES
    _ok(terraform("apply", "-auto-approve", *options, changed))
    third = terraform("plan", "-detailed-exitcode", *options, changed)
    assert third.returncode == NO_CHANGE, third.stdout
    _demo(json.loads(_ok(terraform("output", "-json"))), endpoint, tmp_path)
    _ok(terraform("destroy", "-auto-approve", *options))
    assert json.loads(_ok(terraform("show", "-json"))).get("values") is None


def _ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


def _demo(outputs: dict[str, Any], endpoint: str, tmp_path: Path) -> None:
    """Run the demo with the settings of the service, on the bucket, databases, queue, secret and table that were made."""
    variables = dict(outputs["variables"]["value"])
    for name in ("LAKEHOUSE_HOME", "LAKEHOUSE_DAGSTER_POSTGRES_URL"):  # a home and a history of the test's own
        del variables[name]
    variables |= {
        "LAKEHOUSE_S3_ENDPOINT": endpoint,
        "LAKEHOUSE_CATALOG_URI": endpoint,
        "LAKEHOUSE_DYNAMODB_ENDPOINT": endpoint,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    done = run(tmp_path / "home", "demo", "--events", "100", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = run(tmp_path / "home", "query", "select count(*) as n from silver.iot", "--format", "json", **variables)
    assert json.loads(counted.stdout)[0]["n"] > 0
    audited = run(tmp_path / "home", "audit", "--strict", **variables)
    assert audited.returncode == 0, audited.stdout + audited.stderr
