"""The policies in deploy/aws/policies, on moto with IAM enforced: each duty has what it needs, and no more."""

import asyncio
import fnmatch
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from threading import Event
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from lakehouse.auditing import audit as auditing
from lakehouse.http.idempotency import IdempotencyStore
from lakehouse.maintenance.tasks import TASKS, run_task
from lakehouse.pipeline.exports import export_dashboard, export_features, export_unified
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.sqs_arrivals import Arrivals
from lakehouse.serving.lookups.publish import refresh_entities
from lakehouse.serving.query.sql import run_query
from lakehouse.settings import Settings
from lakehouse.sources.aws import aws_client
from lakehouse.sources.kinesis.reader import kinesis_reader
from lakehouse.sources.sqs.inbox import Inbox
from lakehouse.storage.iceberg.tables import NAMESPACES
from lakehouse.storage.objects.store import open_store
from lakehouse_tests.pipeline.own import Own, copy_stream, payment
from lakehouse_tests.sources.sqs.forms import s3_event
from lakehouse_tests.storage.aws import BUCKET, moto
from lakehouse_tests.storage.container_role import TemporaryKeys
from lakehouse_tests.storage.iam import ACCOUNT, REGION, EnforcedAws, enforced

POLICIES = Path(__file__).parents[2] / "deploy" / "aws" / "policies"
DUTIES = ("ingest", "pipeline", "serving", "maintenance", "operator")
STREAM = "payments"
SECRET = "lake/settings"
ARN = f"{REGION}:{ACCOUNT}"
VALUES = {
    "bucket_arn": f"arn:aws:s3:::{BUCKET}",
    "key_arn": f"arn:aws:kms:{ARN}:key/lake",
    "glue_arn": f"arn:aws:glue:{ARN}",
    "events_arn": f"arn:aws:sqs:{ARN}:lake-events",
    "dead_arn": f"arn:aws:sqs:{ARN}:lake-events-dead",
    "kinesis_arn": f"arn:aws:kinesis:{ARN}:stream/lake-*",
    "lookups_arn": f"arn:aws:dynamodb:{ARN}:table/lake-lookups",
    "secret_arn": f"arn:aws:secretsmanager:{ARN}:secret:{SECRET}-AbCdEf",
    "service_arn": f"arn:aws:ecs:{ARN}:service/lake/lake",
    "log_arn": f"arn:aws:logs:{ARN}:log-group:/ecs/lake",
}

NOT_ASKED = {
    "kms:*": "moto checks no permission of keys",
    "ecs:*": "an operator's own commands, not the lakehouse's",
    "logs:*": "an operator's own commands, not the lakehouse's",
    "sqs:StartMessageMoveTask": "moto lacks it; it needs ReceiveMessage, DeleteMessage and SendMessage, too",
    "s3:AbortMultipartUpload": "asked where an upload fails",
    "s3:DeleteObject": "asked where a write fails, in pipeline",
}
"""Actions that the work below does not ask moto for, each with its reason."""


def _document(duty: str) -> str:
    return Template((POLICIES / f"{duty}.json").read_text()).substitute(VALUES)


class House:
    """A lake on moto, and the keys of each duty."""

    def __init__(self, iam: EnforcedAws, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.iam, self._folder, self._patch = iam, folder, patch
        self.asked: dict[str, list[tuple[bool, str, str]]] = {}
        copy_stream(folder / "streams", STREAM)
        iam.client("s3").create_bucket(Bucket=BUCKET)
        iam.client("s3").create_bucket(Bucket="another")
        for namespace in NAMESPACES:
            iam.client("glue").create_database(DatabaseInput={"Name": namespace})
        sqs = iam.client("sqs")
        self.queue, self.dead = (sqs.create_queue(QueueName=f"lake-events{end}")["QueueUrl"] for end in ("", "-dead"))
        kinesis = iam.client("kinesis")
        kinesis.create_stream(StreamName="lake-payments", ShardCount=1)
        kinesis.put_record(StreamName="lake-payments", Data=_events("k"), PartitionKey="1")
        iam.client("secretsmanager").create_secret(Name=SECRET, SecretString="{}")
        iam.client("dynamodb").create_table(
            TableName="lake-lookups",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def work_as(self, duty: str, work: Callable[["House", Own], None]) -> None:
        """Do the work with keys of the duty's role, and note what it asked AWS for."""
        keys = self.iam.assume_role(duty, _document(duty))
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        for name, value in zip(names, keys, strict=True):
            self._patch.setenv(name, value)
        self._patch.setenv("AWS_ENDPOINT_URL", self.iam.endpoint)
        self._patch.setattr(boto3, "DEFAULT_SESSION", None)  # which keeps the keys of the duty before
        lake = Lake(self._settings(keys))
        self.iam.decisions.clear()
        if duty != "operator":
            aws_client(lake.settings, "secretsmanager").get_secret_value(SecretId=SECRET)
        work(self, Own(lake, lake.stream(STREAM)))
        lake.engine.close()
        self.asked[duty] = [*self.iam.decisions]

    def _settings(self, keys: TemporaryKeys) -> Settings:
        return Settings(
            home=self._folder / "home",
            examples=False,
            streams=(self._folder / "streams",),
            storage="external",
            s3_endpoint=self.iam.endpoint,
            s3_access_key_id=keys.key_id,
            s3_secret_access_key=keys.secret,
            s3_session_token=keys.token,
            catalog="glue",
            catalog_uri=self.iam.endpoint,
            catalog_warehouse=f"s3://{BUCKET}/tables",
            kinesis={STREAM: "lake-payments"},
            dynamodb_table="lake-lookups",
            secret_id=SECRET,
        )


def _events(name: str) -> bytes:
    now = datetime.now(UTC)
    return b"\n".join(json.dumps(payment(f"{name}{n}", now)).encode() for n in range(20))


def _ingest(house: House, own: Own) -> None:
    own.land([_events("a")], datetime.now(UTC))
    own.drop(_events("b"), "b.json")
    own.lake.objects.put_stream(
        "incoming/later/large.json", [bytes(40 << 20)]
    )  # in parts; a stream that there is not yet
    kinesis_reader(own.lake.settings, own.lake.objects).run(Event(), once=True)
    own.lake.objects.head("health/probe")

    async def remember() -> None:
        store = IdempotencyStore(open_store(own.lake.connection), own.lake.connection)
        await store.claim("client", "key", "request")
        await store.save("client", "key", "request", b"{}")
        await store.claim("client", "other", "request")
        await store.release("client", "other")

    asyncio.run(remember())


def _pipeline(house: House, own: Own) -> None:
    lake, today = own.lake, datetime.now(UTC).date()
    assert lake.bootstrap()
    sqs = house.iam.client("sqs")
    for body in (s3_event(f"incoming/{STREAM}/b.json"), "no message of S3"):
        sqs.send_message(QueueUrl=house.queue, MessageBody=body if isinstance(body, str) else json.dumps(body))
    arrivals = Arrivals(lake, Inbox(aws_client(lake.settings, "sqs"), house.queue, house.dead))
    assert [*arrivals.pending_files()] == [STREAM]
    own.refresh_realtime(f"{datetime.now(UTC):%Y-%m-%d-%H:00}")
    own.bronze()
    own.clean(*own.stale())
    own.below(today)
    assert arrivals.inbox.depth()
    arrivals.pending_files()  # and the message is deleted, because bronze holds its object
    assert len(export_unified(lake, own.stream, [today])) == 1
    export_dashboard(lake, own.stream)
    export_features(lake, own.stream)
    refresh_entities(lake, own.stream)
    assert own.counts("silver").total() == 60


def _serving(_: House, own: Own) -> None:
    assert [*run_query(own.lake, f"select count(*) from serving.unified_{STREAM}").rows] == [(60,)]
    assert f"silver.{STREAM}" in own.lake.tables.names()
    objects = own.lake.objects
    (unified,) = objects.list(f"serving/unified/{STREAM}")
    assert objects.get(unified.key)


def _maintenance(_: House, own: Own) -> None:
    own.lake.objects.put(f"tables/silver/{STREAM}/data/orphan.parquet", b"")
    assert [report for task in TASKS for report in run_task(own.lake, task) if report.problem] == []
    own.lake.objects.delete([f"tables/silver/{STREAM}/data/orphan.parquet"])
    table = own.lake.tables.load(f"silver.{STREAM}")
    table.transaction().set_properties({"checked": "yes"}).commit_transaction()


def _operator(house: House, own: Own) -> None:
    today = datetime.now(UTC).date()
    assert own.lake.tables.names()
    assert auditing.audit(own.lake, [own.stream], today, today).wrong == []
    sqs = aws_client(own.lake.settings, "sqs")
    sqs.get_queue_attributes(QueueUrl=house.queue, AttributeNames=["All"])
    (message,) = sqs.receive_message(QueueUrl=house.dead)["Messages"]
    sqs.send_message(QueueUrl=house.queue, MessageBody=message["Body"])
    sqs.delete_message(QueueUrl=house.dead, ReceiptHandle=message["ReceiptHandle"])


WORK = dict(zip(DUTIES, (_ingest, _pipeline, _serving, _maintenance, _operator), strict=True))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A lake on which each duty has done its work with its own role, in order."""
    with moto() as endpoint, pytest.MonkeyPatch.context() as patch, enforced(endpoint, patch) as iam:
        house = House(iam, tmp_path_factory.mktemp("house"), patch)
        for duty, work in WORK.items():
            house.work_as(duty, work)
        yield house


@pytest.mark.parametrize("duty", DUTIES)
def test_duty_is_denied_nothing_that_it_needs(house: House, duty: str) -> None:
    assert [decision for decision in house.asked[duty] if not decision[0]] == []


@pytest.mark.parametrize("duty", DUTIES)
def test_every_permission_is_needed(house: House, duty: str) -> None:
    used = {(action, resource) for _, action, resource in house.asked[duty]}
    spare = [
        (statement["Sid"], action)
        for statement in json.loads(_document(duty))["Statement"]
        for action in statement["Action"]
        if not any(fnmatch.fnmatch(action, pattern) for pattern in NOT_ASKED)
        and not any(
            action == asked and any(fnmatch.fnmatchcase(resource, wanted) for wanted in statement["Resource"])
            for asked, resource in used
        )
    ]
    assert spare == []


Ask = Callable[[Callable[[str], Any]], object]


def _get(key: str, bucket: str = BUCKET) -> Ask:
    return lambda client: client("s3").get_object(Bucket=bucket, Key=key)


def _put(key: str) -> Ask:
    return lambda client: client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"")


def _delete(key: str) -> Ask:
    return lambda client: client("s3").delete_object(Bucket=BUCKET, Key=key)


def _glue(method: str, **request: Any) -> Ask:
    return lambda client: getattr(client("glue"), method)(DatabaseName="silver", **request)


LANDED, DATA, EXPORT = (f"{prefix}/x" for prefix in ("incoming", "tables", "serving"))
UPDATE = _glue("update_table", TableInput={"Name": STREAM})
DROP = _glue("delete_table", Name=STREAM)
FOREIGN: dict[str, list[Ask]] = {
    "ingest": [_get(DATA), _put(DATA), _put(EXPORT), _delete(LANDED), _glue("get_table", Name=STREAM), UPDATE],
    "pipeline": [_put(LANDED), _delete(LANDED), DROP],
    "serving": [_put(EXPORT), _put(DATA), _delete(EXPORT), _get(LANDED), UPDATE],
    "maintenance": [DROP, _glue("create_table", TableInput={"Name": "new"})],
    "operator": [_put(LANDED), _put(DATA), _delete(DATA), UPDATE, DROP],
}
"""Actions denied to each duty, because they belong to another one or to none."""


@pytest.mark.parametrize("duty", DUTIES)
def test_duty_is_denied_what_is_not_its_own(house: House, duty: str) -> None:
    keys = house.iam.assume_role(duty, _document(duty))
    elsewhere: list[Ask] = [
        _get("x", bucket="another"),
        lambda client: client("s3").delete_bucket(Bucket=BUCKET),
        lambda client: client("iam").list_users(),
        lambda client: client("glue").create_database(DatabaseInput={"Name": "mine"}),
    ]
    for ask in [*FOREIGN[duty], *elsewhere]:
        with pytest.raises(ClientError, match=r"AccessDenied|not authorized"):
            ask(lambda service: house.iam.client(service, keys))
