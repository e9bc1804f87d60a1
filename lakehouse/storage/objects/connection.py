"""How to reach one lakehouse's storage, as plain data. Starting a server and talking to one belong elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lakehouse.settings import Settings


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of one S3 bucket and one Iceberg catalog, with what it takes to log in."""

    bucket: str
    """The bucket of landing and serving objects."""
    region: str
    endpoint: str | None
    """URL of the S3 server; None means AWS."""
    access_key_id: str | None
    """None, as the secret, means the AWS credential chain."""
    secret_access_key: str | None = field(repr=False)
    catalog: Mapping[str, str] = field(repr=False)
    """Properties for `pyiceberg.catalog.load_catalog("lakehouse", **properties)`."""
    silence_seconds: int = 30
    """For which a server may be silent before a request counts as lost."""
    data_directory: Path | None = None
    """Where an embedded server keeps its data on this machine: tells a full disk from other failures."""
    reader_access_key_id: str | None = None
    """None, as the secret, means that there are no keys that only read."""
    reader_secret_access_key: str | None = field(default=None, repr=False)

    def for_reading(self) -> "Connection":
        """The same storage by keys that only read, where there are such; for what others may send SQL to."""
        if self.reader_access_key_id is None:
            return self
        return replace(self, access_key_id=self.reader_access_key_id, secret_access_key=self.reader_secret_access_key)

    @property
    def catalog_uri(self) -> str | None:
        """URL of the catalog; None means AWS Glue."""
        return self.catalog.get("uri") or self.catalog.get("glue.endpoint")


def tool_variables(connection: Connection) -> dict[str, str]:
    """The variables by which AWS's own tools, and what is built on them, and pyiceberg reach this storage.

    pyiceberg's names: https://py.iceberg.apache.org/configuration/; its catalog is called `lakehouse`.
    """
    aws = {
        "AWS_REGION": connection.region,
        "AWS_ENDPOINT_URL_S3": connection.endpoint,
        "AWS_ACCESS_KEY_ID": connection.access_key_id,
        "AWS_SECRET_ACCESS_KEY": connection.secret_access_key,
    }
    iceberg = {
        "PYICEBERG_CATALOG__LAKEHOUSE__" + name.upper().replace(".", "__").replace("-", "_"): value
        for name, value in connection.catalog.items()
    }
    return _given(aws) | iceberg


def external_connection(settings: Settings) -> Connection:
    """The S3 server and the catalog that the settings name."""
    secret, reader_secret = (
        one.get_secret_value() if one else None
        for one in (settings.s3_secret_access_key, settings.s3_reader_secret_access_key)
    )
    catalog = _glue(settings, secret) if settings.catalog == "glue" else _rest(settings)
    return Connection(
        bucket=settings.bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret,
        silence_seconds=settings.storage_seconds,
        catalog=catalog | file_properties(settings.s3_endpoint, settings.s3_region, settings.s3_access_key_id, secret),
        reader_access_key_id=settings.s3_reader_access_key_id,
        reader_secret_access_key=reader_secret,
    )


def file_properties(endpoint: str | None, region: str, key_id: str | None, secret: str | None) -> dict[str, str]:
    """Properties by which pyiceberg reads and writes a table's files, https://py.iceberg.apache.org/configuration/."""
    return _given(
        {
            "s3.endpoint": endpoint,
            "s3.region": region,
            "s3.access-key-id": key_id,
            "s3.secret-access-key": secret,
            "s3.path-style-access": "true" if endpoint else None,
        }
    )


def _rest(settings: Settings) -> dict[str, str]:
    credential, token = settings.catalog_credential, settings.catalog_token
    return _given(
        {
            "type": "rest",
            "uri": settings.catalog_uri,
            "warehouse": settings.catalog_warehouse,
            "prefix": settings.catalog_prefix,
            "credential": credential.get_secret_value() if credential else None,
            "token": token.get_secret_value() if token else None,
        }
    )


def _glue(settings: Settings, secret: str | None) -> dict[str, str]:
    return _given(
        {
            "type": "glue",
            "warehouse": settings.catalog_warehouse,
            "glue.endpoint": settings.catalog_uri,
            "glue.region": settings.s3_region,
            "glue.access-key-id": settings.s3_access_key_id,
            "glue.secret-access-key": secret,
        }
    )


def _given(properties: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in properties.items() if value is not None}
