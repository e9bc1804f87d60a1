"""Credentials of AWS on moto with IAM enforced: keys of a role, temporary keys, and the errors where they are missing."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from lakehouse import aws as aws_errors
from lakehouse.engine.connection import DuckDB
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.commits import retry_on_conflict
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.query.sandbox import lockdown_sql
from lakehouse.serving.query.sql import run_query
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.iceberg.tables import NAMESPACES, open_version
from lakehouse.storage.objects.connection import Connection, file_properties
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.storage.aws import BUCKET
from lakehouse_tests.storage.container_role import TemporaryKeys, container_role
from lakehouse_tests.storage.iam import EnforcedAws, policy

TABLES = {"Effect": "Allow", "Action": ["glue:GetDatabase*", "glue:GetTable*", "glue:CreateTable", "glue:UpdateTable"]}
OBJECTS = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"], "Resource": "*"}
NEEDED = policy(TABLES | {"Resource": "*"}, OBJECTS)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no credentials of the developer's own to be found."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws_errors.require_credentials.cache_clear()
    yield
    aws_errors.require_credentials.cache_clear()


def _settings(iam: EnforcedAws, home: Path, **keys: Any) -> Settings:
    iam.client("s3").create_bucket(Bucket=BUCKET)
    return Settings(
        home=home,
        storage="external",
        s3_endpoint=iam.endpoint,
        catalog="glue",
        catalog_uri=iam.endpoint,
        catalog_warehouse=f"s3://{BUCKET}/tables",
        **keys,
    )


def _make_databases(iam: EnforcedAws) -> None:
    for namespace in NAMESPACES:
        iam.client("glue").create_database(DatabaseInput={"Name": namespace})


def test_role_of_a_container_bootstraps_and_queries_without_keys(
    iam: EnforcedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(iam, tmp_path)
    _make_databases(iam)
    iam.decisions.clear()
    with iam.running_as("lake", NEEDED) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        lake = Lake(settings, storage.connection(settings))
        assert lake.bootstrap()
        assert lake.bootstrap() == []
        assert list(run_query(lake, "select count(*) from silver.iot").rows) == [(0,)]
        assert lake.objects.put("a/b", b"1")
        assert [info.key for info in lake.objects.list("a")] == ["a/b"]
    assert {action for allowed, action, _ in iam.decisions if not allowed} == set()
    assert "glue:CreateDatabase" not in {action for _, action, _ in iam.decisions}


@pytest.mark.parametrize("has_token", [True, False])
def test_temporary_keys_need_their_token(iam: EnforcedAws, tmp_path: Path, has_token: bool) -> None:
    _make_databases(iam)
    keys = iam.assume_role("lake", NEEDED)
    token = {"s3_session_token": keys.token} if has_token else {}
    settings = _settings(iam, tmp_path, s3_access_key_id=keys.key_id, s3_secret_access_key=keys.secret, **token)
    lake = Lake(settings, storage.connection(settings))
    if has_token:
        assert lake.bootstrap()
        assert list(run_query(lake, "select count(*) from silver.iot").rows) == [(0,)]
    else:
        with pytest.raises(LakehouseError, match=r"LAKEHOUSE_S3_SESSION_TOKEN"):
            lake.bootstrap()


def test_missing_credentials_are_named_before_any_request(iam: EnforcedAws, tmp_path: Path) -> None:
    settings = _settings(iam, tmp_path)
    iam.decisions.clear()
    with pytest.raises(LakehouseError, match=r"There are no AWS credentials\. Set AWS_PROFILE"):
        storage.connection(settings)
    assert iam.decisions == []


@pytest.mark.parametrize(
    ("allowed", "denied"),
    [
        ([OBJECTS], "glue:GetDatabases"),
        ([OBJECTS, TABLES | {"Action": ["glue:GetDatabase*"]}], "glue:GetTables"),
        ([TABLES | {"Action": "glue:*"}], "s3:PutObject|s3:GetObject"),
    ],
)
def test_denied_action_is_named(iam: EnforcedAws, tmp_path: Path, allowed: list[Any], denied: str) -> None:
    _make_databases(iam)
    keys = iam.assume_role("lake", policy(*(statement | {"Resource": "*"} for statement in allowed)))
    settings = _settings(
        iam,
        tmp_path,
        s3_access_key_id=keys.key_id,
        s3_secret_access_key=keys.secret,
        s3_session_token=keys.token,
    )
    with pytest.raises(LakehouseError, match=f"({denied})( on .*)? is denied. Allow it in the policy"):
        Lake(settings, storage.connection(settings)).bootstrap()


ANSWERS = {
    "ExpiredToken": (400, "The provided token has expired.", "session token has expired"),
    "AuthorizationHeaderMalformed": (
        400,
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'",
        "LAKEHOUSE_S3_REGION",
    ),
    "PermanentRedirect": (301, "The bucket must be addressed using the specified endpoint.", "LAKEHOUSE_S3_REGION"),
    "AccessDenied": (403, "Access Denied", "s3:GetObject"),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
        "clock",
    ),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist.", "does not know the access key"),
}
"""Codes of S3 with status, message and what is said of them. Answers to HEAD have no code: obstore, Arrow and boto3 then differ."""


@pytest.fixture
def refusing_s3() -> Iterator[tuple[str, list[str]]]:
    """The URL of an S3 that refuses each request with the code in the list, as AWS's does."""
    code: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, message, _ = ANSWERS[code[0]]
            content = f"<Error><Code>{code[0]}</Code><Message>{message}</Message></Error>".encode()
            self.send_response(status)
            if "region" in message or status == 301:
                self.send_header("x-amz-bucket-region", "eu-central-1")
            self.send_header("content-type", "application/xml")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815  # the name that the library asks for

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", code
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("code", ANSWERS)
def test_each_client_says_what_to_do_about_a_refusal(
    refusing_s3: tuple[str, list[str]], tmp_path: Path, code: str
) -> None:
    url, answer = refusing_s3
    answer[:] = [code]
    connection = Connection(
        "lake", "us-east-1", url, "a", "b", catalog=file_properties(url, "us-east-1", "a", "b", "c"), session_token="c"
    )
    objects = Objects.from_connection(connection)
    database = DuckDB(connection, scratch=tmp_path)
    database.database.execute("set global http_retries = 0")
    read = "select * from read_csv('s3://lake/key')"
    clients: dict[str, Callable[[], object]] = {
        "obstore": lambda: objects.get("key"),
        "duckdb": lambda: retry_on_conflict(lambda: database.cursor().execute(read)),
    }
    for client, ask in clients.items():
        with pytest.raises(LakehouseError) as raised:
            ask()
        assert ANSWERS[code][2] in str(raised.value), client
        assert "\n" not in str(raised.value)
    for ask in (lambda: objects.get("a//b"), lambda: open_version(connection, ("a", "b"), "s3://lake/m.json")):
        with pytest.raises(LakehouseError, match=r"LAKEHOUSE_S3_REGION|s3:GetObject is denied"):
            ask()
    database.close()


def test_duckdb_renews_the_keys_of_a_role_when_they_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issued: list[str] = []

    def keys() -> TemporaryKeys:
        issued.append(f"key{len(issued)}")
        return TemporaryKeys(issued[-1], "secret", "token")

    class Server(BaseHTTPRequestHandler):
        """Serves one file to the newest key. To others it says that their token has expired."""

        def do_GET(self) -> None:
            is_valid = f"Credential={issued[-1]}/" in self.headers["Authorization"] and len(issued) > 1
            content = b"n\n7\n" if is_valid else b"<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>"
            self.send_response(200 if is_valid else 400)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815  # the name that the library asks for

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with container_role(keys) as role:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role)
        connection = Connection("lake", "us-east-1", url, None, None, catalog={})
        # As in the processes that run users' SQL, where configuration is locked and no other file may be read.
        database = DuckDB(connection, scratch=tmp_path)
        for statement in lockdown_sql(["s3://lake/"]):
            database.database.execute(statement)
        assert database.cursor().execute("select n from read_csv('s3://lake/key')").fetchall() == [(7,)]
    assert len(issued) == 2
    database.close()
    server.shutdown()
    server.server_close()


def test_status_says_whether_external_storage_answers(
    iam: EnforcedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(iam, tmp_path)
    assert storage.status(settings).running is False
    with iam.running_as("lake", NEEDED) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert storage.status(settings).running is True
        assert storage.status(settings.model_copy(update={"bucket": "missing"})).running is False
