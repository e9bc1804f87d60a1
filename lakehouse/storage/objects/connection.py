"""The address and credentials of one lakehouse's storage, as plain data. See `embedded` for starting a server."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlparse

from lakehouse.settings import Settings


@dataclass(frozen=True, slots=True)
class Connection:
    """The addresses of an S3 bucket and an Iceberg catalog, with the credentials for both."""

    bucket: str
    """The bucket of landing objects and serving objects."""
    region: str
    endpoint: str | None
    """URL of the S3 server; None means AWS."""
    access_key_id: str | None
    """None, together with the secret, means the AWS credential chain."""
    secret_access_key: str | None = field(repr=False)
    session_token: str | None = field(default=None, repr=False, kw_only=True)
    """Of temporary keys; None for others."""
    catalog: Mapping[str, str] = field(repr=False)
    """Properties of pyiceberg's catalog, https://py.iceberg.apache.org/configuration/."""
    silence_seconds: int = 30
    """How long a server may be silent before a request counts as lost."""
    data_directory: Path | None = None
    """Where an embedded server keeps its data on this machine, to tell a full disk from other failures."""
    sync: bool = True
    """Whether the embedded server's files are synced to disk before a write counts as done; see `durability`."""
    reader_access_key_id: str | None = None
    """None, together with the secret, means that there is no read-only key."""
    reader_secret_access_key: str | None = field(default=None, repr=False)
    reader_session_token: str | None = field(default=None, repr=False)

    def for_reading(self) -> "Connection":
        """Return the connection with the read-only key, if there is one. Use it where users run SQL."""
        if self.reader_access_key_id is None:
            return self
        return replace(
            self,
            access_key_id=self.reader_access_key_id,
            secret_access_key=self.reader_secret_access_key,
            session_token=self.reader_session_token,
        )

    @property
    def is_external(self) -> bool:
        """Whether the storage is not a server that this package runs on this machine."""
        return self.data_directory is None

    @property
    def has_keys(self) -> bool:
        """Whether the connection has keys of its own; without them, the AWS credential chain has them."""
        return self.access_key_id is not None and self.secret_access_key is not None

    @property
    def buckets(self) -> frozenset[str]:
        """The bucket of objects and, where it is known, that of tables."""
        return frozenset({self.bucket, urlparse(self.catalog.get("warehouse", "")).netloc}) - {""}

    @property
    def catalog_uri(self) -> str | None:
        """The URL of the catalog; None means AWS Glue."""
        return self.catalog.get("uri") or self.catalog.get("glue.endpoint")


def tool_variables(connection: Connection) -> dict[str, str]:
    """Return the environment variables with which the AWS tools, their SDKs and pyiceberg reach this storage.

    The catalog of pyiceberg is named `lakehouse`; see https://py.iceberg.apache.org/configuration/ for its variables.
    """
    aws = {
        "AWS_REGION": connection.region,
        "AWS_ENDPOINT_URL_S3": connection.endpoint,
        "AWS_ACCESS_KEY_ID": connection.access_key_id,
        "AWS_SECRET_ACCESS_KEY": connection.secret_access_key,
        "AWS_SESSION_TOKEN": connection.session_token,
    }
    iceberg = {
        "PYICEBERG_CATALOG__LAKEHOUSE__" + name.upper().replace(".", "__").replace("-", "_"): value
        for name, value in connection.catalog.items()
    }
    return _without_none(aws) | iceberg


def external_connection(settings: Settings) -> Connection:
    """Return the connection to the S3 server and the catalog that the settings name."""
    secret, token, reader_secret, reader_token = (
        key.get_secret_value() if key else None
        for key in (
            *(settings.s3_secret_access_key, settings.s3_session_token),
            *(settings.s3_reader_secret_access_key, settings.s3_reader_session_token),
        )
    )
    catalog = _glue_catalog(settings, secret, token) if settings.catalog == "glue" else _rest_catalog(settings)
    files = file_properties(settings.s3_endpoint, settings.s3_region, settings.s3_access_key_id, secret, token)
    return Connection(
        bucket=settings.bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret,
        session_token=token,
        silence_seconds=settings.storage_seconds,
        catalog=catalog | files,
        reader_access_key_id=settings.s3_reader_access_key_id,
        reader_secret_access_key=reader_secret,
        reader_session_token=reader_token,
    )


def file_properties(
    endpoint: str | None, region: str, key_id: str | None, secret: str | None, token: str | None = None
) -> dict[str, str]:
    """Return the properties for a table's files in pyiceberg, https://py.iceberg.apache.org/configuration/."""
    return _without_none(
        {
            "s3.endpoint": endpoint,
            "s3.region": region,
            "s3.access-key-id": key_id,
            "s3.secret-access-key": secret,
            "s3.session-token": token,
            "s3.path-style-access": "true" if endpoint else None,
        }
    )


def _rest_catalog(settings: Settings) -> dict[str, str]:
    credential, token = settings.catalog_credential, settings.catalog_token
    return _without_none(
        {
            "type": "rest",
            "uri": settings.catalog_uri,
            "warehouse": settings.catalog_warehouse,
            "prefix": settings.catalog_prefix,
            "credential": credential.get_secret_value() if credential else None,
            "token": token.get_secret_value() if token else None,
        }
    )


def _glue_catalog(settings: Settings, secret: str | None, token: str | None) -> dict[str, str]:
    return _without_none(
        {
            "type": "glue",
            "warehouse": settings.catalog_warehouse,
            "glue.endpoint": settings.catalog_uri,
            "glue.region": settings.s3_region,
            "glue.access-key-id": settings.s3_access_key_id,
            "glue.secret-access-key": secret,
            "glue.session-token": token,
        }
    )


def _without_none(properties: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in properties.items() if value is not None}
