"""Settings of a lakehouse, read from variables `LAKEHOUSE_…` and a project's file. See `docs/settings.md` for the list."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    AWSSecretsManagerSettingsSource,
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from lakehouse.aws import explain, is_client_error
from lakehouse.errors import LakehouseError
from lakehouse.project import PROJECT_FILE, find_project, load_variables, read_project


def _start_of_last_year() -> date:
    return date(datetime.now(UTC).year - 1, 1, 1)


KEY_PARTS = ("access_key_id", "secret_access_key", "session_token")


PIPES = "pipes"
"""The address of Spark for runs that Dagster Pipes starts as processes elsewhere."""


class PipesSettings(BaseModel):
    """How a job is started elsewhere; see docs/spark.md."""

    model_config = ConfigDict(extra="forbid")

    client: Literal["subprocess", "emr-serverless", "emr-containers", "glue"] = "subprocess"
    command: tuple[str, ...] = ()
    """The command of a subprocess; by default `lakehouse job` with this Python."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables of a subprocess beside those of this process."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the client's `start_job_run`."""


class Settings(BaseSettings):
    """The settings of one lakehouse, read from the environment and the project's `lakehouse.toml`."""

    model_config = SettingsConfigDict(env_prefix="LAKEHOUSE_", env_ignore_empty=True, frozen=True)

    project: str | None = Field(
        None,
        description="Folder of the project's `lakehouse.toml`, or `none`; unset looks from the current folder upwards.",
    )
    home: Path = Field(
        Path(".lakehouse"), description="Folder of all state: storage, credentials, Dagster's history, logs."
    )
    streams: tuple[Path, ...] = Field((), description="Further folders of streams, as a JSON list of paths.")
    examples: bool = Field(True, description="Use the package's seven streams and the named queries over them, too.")
    models: tuple[Path, ...] = Field((), description="Folders of models, as a JSON list of paths.")
    assets: tuple[Path, ...] = Field(
        (), description="Folders of Python files with Dagster definitions of your own, as a JSON list of paths."
    )

    storage: Literal["embedded", "external"] = Field(
        "embedded",
        description="`embedded` starts SeaweedFS under the home; `external` uses the S3 and catalog named below.",
    )
    bucket: str = Field("lake", description="The bucket of landing and serving objects.")
    s3_endpoint: str | None = Field(None, description="URL of an S3 server; unset means AWS.")
    s3_region: str = Field("us-east-1", description="Region of the buckets.")
    s3_access_key_id: str | None = Field(None, description="S3 key; unset means the AWS credential chain.")
    s3_secret_access_key: SecretStr | None = Field(None, description="S3 secret.")
    s3_session_token: SecretStr | None = Field(
        None, description="Session token of temporary S3 keys; they expire, so prefer the AWS credential chain."
    )
    s3_reader_access_key_id: str | None = Field(
        None, description="S3 key that only reads, for queries; unset means the other key."
    )
    s3_reader_secret_access_key: SecretStr | None = Field(None, description="Its secret.")
    s3_reader_session_token: SecretStr | None = Field(None, description="Its session token, if it is temporary.")
    catalog: Literal["rest", "glue"] = Field(
        "rest", description="Kind of the Iceberg catalog when storage is external."
    )
    catalog_uri: str | None = Field(None, description="URL of the REST catalog, or of Glue when it is not AWS's own.")
    catalog_warehouse: str = Field(
        "s3://tables", description="Where tables live: the REST catalog's warehouse, or an S3 prefix for Glue."
    )
    catalog_prefix: str | None = Field(None, description="Path prefix of the REST catalog.")
    catalog_credential: SecretStr | None = Field(None, description="OAuth `id:secret` of the REST catalog.")
    catalog_token: SecretStr | None = Field(None, description="Bearer token of the REST catalog.")
    storage_seconds: int = Field(
        30, ge=1, description="Seconds without an answer from external storage after which a request counts as lost."
    )

    sync: bool = Field(
        True,
        description="Sync the embedded storage to disk before events are acknowledged and a commit is reported.",
    )

    memory_limit_mb: int = Field(
        1024, ge=128, description="Memory DuckDB may use in one process, in MiB; beyond it, DuckDB spills to disk."
    )
    spill_mb: int = Field(
        16384, ge=0, description="MiB of disk to which DuckDB may spill in one process; beyond it, the work fails."
    )
    threads: int | None = Field(
        None, ge=1, description="Threads DuckDB may use in one process; unset means one per core."
    )

    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="Who computes large runs: `duckdb` in their own process, or `spark` on many machines."
    )
    spark: str = Field(
        "local[*]",
        description="Where Spark is: `sc://host:port` of a Spark Connect server, a master such as `local[*]`, or `pipes`.",
    )
    pipes: PipesSettings = Field(
        default_factory=PipesSettings,
        description="How `LAKEHOUSE_SPARK=pipes` starts a job, as JSON: `client`, and its `command` and `env` or `params`.",
    )
    spark_from_mb: int = Field(
        256, ge=0, description="MiB that a run must read for Spark to compute it; smaller ones stay on this machine."
    )

    shadow_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of partitions, such as 0.01, that are computed on the other engine too, to compare their rows.",
    )

    time_travel_days: int = Field(
        30, ge=0, description="Days for which bronze, silver and gold keep the last snapshot of each day."
    )
    realtime_start: date = Field(default_factory=_start_of_last_year, description="First day with hourly partitions.")
    alerts: Path | None = Field(None, description="TOML file of who receives messages about what; see docs/alerts.md.")
    alert_secrets: SecretStr | None = Field(
        None,
        description="URLs, keys and passwords that the file of `alerts` names, as a JSON object; or set each as a variable.",
    )
    audit_log_days: int = Field(
        400, ge=31, description="Days for which the audit log is kept, in whole months: who did what."
    )
    webhook_url: str | None = Field(None, description="URL that receives a JSON message about each job that fails.")
    compute_logs: Literal["local", "s3"] = Field(
        "local",
        description="Where the output of runs is kept: `local` under the home, `s3` in the bucket under `dagster/`.",
    )
    openlineage: str | None = Field(
        None, description="URL or file that receives events of OpenLineage about each run; see docs/lineage.md."
    )
    openlineage_api_key: SecretStr | None = Field(None, description="Bearer token of that URL.")
    openlineage_namespace: str = Field(
        "lakehouse", description="Namespace of the jobs and table names in these events."
    )
    secret_id: str | None = Field(
        None,
        description="An AWS Secrets Manager secret: a JSON object of these variables. Variables that are set take precedence.",
    )
    dagster_postgres_url: SecretStr | None = Field(
        None,
        description="`postgresql://…` of a database for Dagster's history; unset keeps it in SQLite under the home.",
    )
    history_days: int = Field(7, ge=1, description="Days for which Dagster's history keeps successful runs.")
    failed_history_days: int = Field(
        30, ge=1, description="Days for which Dagster's history keeps failed and canceled runs."
    )
    dagster_host: str = Field(
        "127.0.0.1", description="Address the Dagster page listens on; off loopback it needs a password."
    )
    dagster_port: int = Field(
        3000, ge=1, le=65535, description="Port of the Dagster page; the next free one when taken."
    )
    dagster_password: SecretStr | None = Field(
        None, description="Password that the Dagster page asks for, with any user name; unset means no login."
    )

    incoming: Literal["list", "queue"] = Field(
        "list",
        description="How new files under `incoming/` are found: `list` lists them, `queue` reads S3's messages from SQS.",
    )
    queue_url: str | None = Field(None, description="URL of the SQS queue with S3's messages about new objects.")
    queue_dead_letter_url: str | None = Field(
        None,
        description="URL of the SQS queue for messages that cannot be parsed; unset leaves them in the queue.",
    )
    kinesis: dict[str, str] = Field(
        {},
        description="Kinesis data streams to read, as JSON: stream of the lakehouse → name or ARN.",
    )
    kinesis_poll_ms: int = Field(
        1000,
        ge=200,
        le=60_000,
        description="Milliseconds between two polls of a Kinesis shard that is read to its end.",
    )
    publish: dict[str, str] = Field(
        {},
        repr=False,
        description="Warehouses to publish tables to, as JSON: name → URL, such as `postgresql://user@host/database`.",
    )
    warm_runs: bool = Field(
        True, description="Keep a process from which runs are forked, so that they start at once (Linux)."
    )

    http_host: str = Field(
        "127.0.0.1", description="Address the HTTP server listens on; off loopback every request needs an API key."
    )
    http_port: int = Field(8000, ge=1, le=65535, description="Port of the HTTP server; the next free one when taken.")
    http_workers: int = Field(2, ge=1, le=64, description="Processes of the HTTP server.")
    http_keys: Literal["auto", "always"] = Field(
        "auto", description="`auto` asks for API keys off loopback only; `always` asks for them everywhere."
    )
    http_flush_ms: int = Field(
        250,
        ge=1,
        le=60_000,
        description="Milliseconds after which buffered events are stored at the latest.",
    )
    http_flush_kb: int = Field(
        2048,
        ge=1,
        le=1 << 20,
        description="KiB of buffered events of a stream that are stored at once; a quarter of it after a quarter of the time.",
    )
    http_share: bool = Field(
        True,
        description="Store the few events of several streams in one landing object, under `realtime/_shared/`.",
    )
    http_buffer_mb: int = Field(
        128, ge=8, description="MiB of events that one HTTP process may buffer; beyond it, the answer is 429."
    )
    http_max_body_mb: int = Field(
        16, ge=1, le=64, description="MiB of one request's events, decompressed; beyond it, the answer is 413."
    )
    http_max_events: int = Field(50_000, ge=1, description="Events of one request; beyond it, the answer is 413.")
    http_body_seconds: float = Field(30.0, gt=0, description="Seconds a client may take to send one request.")
    http_tls_certificate: Path | None = Field(None, description="PEM file of the HTTP server's certificate chain.")
    http_tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")

    queries: tuple[Path, ...] = Field(
        (), description="Folders of further named queries, as a JSON list; a name there replaces the package's."
    )
    lookups: tuple[Path, ...] = Field((), description="Folders of look-ups of your own, as a JSON list of paths.")
    dashboards: tuple[Path, ...] = Field(
        (), description="Folders of dashboards, Markdown files with SQL blocks, as a JSON list of paths."
    )
    dynamodb_table: str | None = Field(
        None, description="A DynamoDB table that receives the look-ups as well; created if missing."
    )
    dynamodb_endpoint: str | None = Field(None, description="URL of a DynamoDB other than AWS's own.")
    tail_mb: int = Field(
        256, ge=1, description="MiB on disk of the hot tail: the newest events, until the realtime tables hold them."
    )
    query_workers: int = Field(2, ge=1, le=64, description="Processes that run ad-hoc SQL, each one query at a time.")
    query_waiting: int = Field(
        16, ge=0, description="Queries that may wait for a worker; beyond it, the answer is 429."
    )
    query_seconds: float = Field(30.0, gt=0, description="Seconds after which a query is ended.")
    query_memory_mb: int = Field(512, ge=64, description="MiB of memory that one query may use.")
    query_spill_mb: int = Field(1024, ge=0, description="MiB of disk to which one query may spill.")
    query_rows: int = Field(100_000, ge=1, description="Most rows that one query returns.")
    query_answer_mb: int = Field(64, ge=1, description="Most MiB that one query's answer may have.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the secret if one is named, then the project's file.

        Raises LakehouseError if the file is wrong.
        """
        project = project_settings(settings_cls)
        in_file = InitSettingsSource(settings_cls, project)
        if not (secret_id := os.environ.get("LAKEHOUSE_SECRET_ID") or project.get("secret_id")):
            return init_settings, env_settings, in_file
        region = os.environ.get("LAKEHOUSE_S3_REGION") or project.get("s3_region", "us-east-1")
        secret = AWSSecretsManagerSettingsSource(settings_cls, secret_id, region_name=region, case_sensitive=False)
        return init_settings, env_settings, secret, in_file

    @model_validator(mode="after")
    def _external_is_complete(self) -> "Settings":
        if self.storage == "external" and self.catalog == "rest" and not self.catalog_uri:
            raise ValueError("LAKEHOUSE_STORAGE=external with a REST catalog needs LAKEHOUSE_CATALOG_URI")
        return self

    @model_validator(mode="after")
    def _keys_are_complete(self) -> "Settings":
        for kind in ("S3", "S3_READER"):
            key, secret, token = (getattr(self, f"{kind}_{part}".lower()) for part in KEY_PARTS)
            if (key is None) != (secret is None) or (token is not None and key is None):
                names = ", ".join(f"LAKEHOUSE_{kind}_{part.upper()}" for part in KEY_PARTS)
                raise ValueError(f"{names}: the first two go together, and a session token needs both")
        return self

    @model_validator(mode="after")
    def _queue_is_complete(self) -> "Settings":
        if self.incoming == "queue" and not self.queue_url:
            raise ValueError("LAKEHOUSE_INCOMING=queue needs LAKEHOUSE_QUEUE_URL")
        return self

    @model_validator(mode="after")
    def _page_is_safe(self) -> "Settings":
        if self.dagster_password is None and not is_loopback(self.dagster_host):
            raise ValueError(
                f"LAKEHOUSE_DAGSTER_HOST={self.dagster_host} lets other machines reach the Dagster page, which can run and"
                " delete everything. Set LAKEHOUSE_DAGSTER_PASSWORD too"
            )
        return self

    @model_validator(mode="after")
    def _tls_is_complete(self) -> "Settings":
        if (self.http_tls_certificate is None) != (self.http_tls_key is None):
            raise ValueError("LAKEHOUSE_HTTP_TLS_CERTIFICATE and LAKEHOUSE_HTTP_TLS_KEY go together; set both or none")
        return self

    @property
    def page_certificate(self) -> Path | None:
        """The certificate of the Dagster page: the HTTP server's, where other machines reach the page."""
        return None if is_loopback(self.dagster_host) else self.http_tls_certificate

    @property
    def root(self) -> Path:
        """The home folder as an absolute path."""
        return self.home.expanduser().absolute()


def is_loopback(host: str) -> bool:
    """Return whether this name or address is reachable from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def project_settings(settings_type: type[BaseSettings]) -> dict[str, Any]:
    """Read what the project's file sets, with its paths from the project's folder; empty without a project.

    Raises LakehouseError if the file sets what there is not, or a secret.
    """
    folder = find_project()
    if folder is None:
        return {}
    fields = settings_type.model_fields
    secrets = {name for name, field in fields.items() if SecretStr in get_args(field.annotation)}
    values = {"home": ".lakehouse"} | read_project(folder, set(fields) - {"project"}, secrets)
    for name, value in values.items():
        if Path in {fields[name].annotation, *get_args(fields[name].annotation)}:
            paths = [folder / Path(path).expanduser() for path in (value if isinstance(value, list) else [value])]
            values[name] = paths if isinstance(value, list) else paths[0]
    return values


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Get the settings of this process, with the variables of the project's `.env` in its environment.

    Raises LakehouseError, which names each setting that is wrong, or says why the secret can't be read.
    """
    load_variables(find_project())
    try:
        return Settings()
    except ValueError as error:
        errors = error.errors() if isinstance(error, ValidationError) else []
        wrong = "; ".join(f"{_place(e['loc'])}: {e['msg']}" if e["loc"] else str(e["msg"]) for e in errors)
        raise LakehouseError(f"A setting is wrong: {wrong or error}") from error
    except Exception as error:
        if not is_client_error(error):
            raise
        secret = os.environ.get("LAKEHOUSE_SECRET_ID") or "of secret_id"
        raise LakehouseError(f"Can't read the secret {secret}: {explain(error) or error}") from error


def _place(location: Sequence[str | int]) -> str:
    """Name the variable of a setting, or the setting where the project's file sets it."""
    name = str(location[0])
    folder = find_project()
    in_file = folder is not None and f"LAKEHOUSE_{name.upper()}" not in os.environ
    if folder is not None and in_file and name in project_settings(Settings):
        return f"{folder / PROJECT_FILE}: {'.'.join(map(str, location))}"
    return f"LAKEHOUSE_{'_'.join(map(str, location)).upper()}"
