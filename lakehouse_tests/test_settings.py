"""Settings come from the environment and, when one is named, from a secret."""

import json

import boto3
import pytest

from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings, get_settings


@pytest.fixture
def secrets_manager(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


@pytest.mark.usefixtures("secrets_manager")
def test_secret_supplies_what_the_environment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"LAKEHOUSE_WEBHOOK_URL": "http://secret/hook", "LAKEHOUSE_BUCKET": "secret-bucket"}
    client = boto3.client("secretsmanager", region_name="us-east-1")
    client.create_secret(Name="lake", SecretString=json.dumps(content))
    monkeypatch.setenv("LAKEHOUSE_SECRET_ID", "lake")
    monkeypatch.setenv("LAKEHOUSE_BUCKET", "my-bucket")
    settings = Settings()
    assert (settings.webhook_url, settings.bucket) == ("http://secret/hook", "my-bucket")


def test_wrong_setting_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_MEMORY_LIMIT_MB", "much")
    get_settings.cache_clear()
    with pytest.raises(LakehouseError, match="LAKEHOUSE_MEMORY_LIMIT_MB"):
        get_settings()
    get_settings.cache_clear()


def test_external_rest_catalog_needs_its_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_STORAGE", "external")
    get_settings.cache_clear()
    with pytest.raises(LakehouseError, match="LAKEHOUSE_CATALOG_URI"):
        get_settings()
    get_settings.cache_clear()


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", "")
    monkeypatch.setenv("LAKEHOUSE_MEMORY_LIMIT_MB", "")
    assert Settings().home == Settings.model_fields["home"].default
    assert Settings().memory_limit_mb == Settings.model_fields["memory_limit_mb"].default
