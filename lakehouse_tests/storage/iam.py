"""moto with IAM enforced, and roles whose temporary keys a container gets.

moto knows the resources of S3 and SQS alone. What it lacks of Glue, Kinesis, DynamoDB and Secrets Manager is added here, so that a
policy is judged by its resources too.
"""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import pytest

from lakehouse_tests.storage.container_role import TemporaryKeys, container_role

ACCOUNT = "123456789012"
REGION = "us-east-1"
ANY_ACTION = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@dataclass(frozen=True, slots=True)
class EnforcedAws:
    """An AWS in which every request needs a permission."""

    endpoint: str
    admin: TemporaryKeys
    decisions: list[tuple[bool, str, str]]
    """Whether a request was allowed, its action and its resource, in order."""

    def client(self, service: str, keys: TemporaryKeys | None = None) -> Any:
        """Open a client with these keys, by default those that may do anything."""
        key_id, secret, token = keys or self.admin
        return boto3.client(
            service,  # type: ignore[call-overload]  # its name is known at run time only
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token or None,
        )

    def assume_role(self, name: str, document: str) -> TemporaryKeys:
        """Make a role with this policy unless there is one, and return new keys of it."""
        iam = self.client("iam")
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        trust = policy({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"})
        if name not in {role["RoleName"] for role in iam.list_roles()["Roles"]}:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        iam.put_role_policy(RoleName=name, PolicyName="only", PolicyDocument=document)
        answer = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        return TemporaryKeys(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])

    @contextmanager
    def running_as(self, name: str, document: str) -> Iterator[Mapping[str, str]]:
        """Yield the variables of a container that runs with this role: where its keys are, and no keys."""
        keys = self.assume_role(name, document)
        with container_role(lambda: keys) as url:
            yield {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": url,
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": "/dev/null",
                "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            }


@contextmanager
def enforced(endpoint: str, patch: pytest.MonkeyPatch) -> Iterator[EnforcedAws]:
    """Enforce IAM on the moto server at this endpoint, in this process, until the block ends."""
    decisions: list[tuple[bool, str, str]] = []
    _name_resources(patch)
    _judge_each_deleted_key(patch)
    _record_decisions(patch, decisions)
    iam = boto3.client(
        "iam", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b"
    )
    iam.create_user(UserName="admin")
    iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=policy(ANY_ACTION))
    key = iam.create_access_key(UserName="admin")["AccessKey"]
    _exempt_requests(endpoint, 0)
    try:
        yield EnforcedAws(endpoint, TemporaryKeys(key["AccessKeyId"], key["SecretAccessKey"], ""), decisions)
    finally:
        _exempt_requests(endpoint, float("inf"))


def _exempt_requests(endpoint: str, count: float) -> None:
    """Enforce IAM after so many requests, https://docs.getmoto.org/en/latest/docs/iam.html."""
    text = str(count) if count != float("inf") else "Infinity"
    request = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth", data=text.encode(), headers={"Content-Type": "text/plain"}, method="POST"
    )
    with urllib.request.urlopen(request):
        pass


def _name_resources(patch: pytest.MonkeyPatch) -> None:
    from moto.dynamodb.responses import DynamoHandler
    from moto.glue.responses import GlueResponse
    from moto.kinesis.responses import KinesisResponse
    from moto.secretsmanager.responses import SecretsManagerResponse

    def arn(service: str, name: str) -> str:
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"

    def glue(self: Any) -> str:
        action, name = self._get_action(), self._get_param("Name")
        database = self._get_param("DatabaseName") or (self._get_param("DatabaseInput") or {}).get("Name")
        if "Table" in action:
            return arn("glue", f"table/{database}/{name or (self._get_param('TableInput') or {}).get('Name', 'any')}")
        if "Database" in action and (database or name):
            return arn("glue", f"database/{database or name}")
        return arn("glue", "catalog")

    def kinesis(self: Any) -> str:
        return self._get_param("StreamARN") or arn("kinesis", f"stream/{self._get_param('StreamName')}")

    def dynamodb(self: Any) -> str:
        table = self.body.get("TableName") or next(iter(self.body.get("RequestItems", {"any": 0})))
        return arn("dynamodb", f"table/{table}")

    def secret(self: Any) -> str:
        name = self._get_param("SecretId") or "any"
        return name if name.startswith("arn:") else arn("secretsmanager", f"secret:{name}-AbCdEf")

    for responses, resource in (
        (GlueResponse, glue),
        (KinesisResponse, kinesis),
        (DynamoHandler, dynamodb),
        (SecretsManagerResponse, secret),
    ):
        patch.setattr(responses, "_determine_resource", resource, raising=False)


def _judge_each_deleted_key(patch: pytest.MonkeyPatch) -> None:
    """Make moto judge a request that deletes many objects by their keys, as S3 does, and not by the bucket."""
    import xmltodict  # type: ignore[import-untyped]  # which moto needs
    from moto.s3.responses import S3Response

    authorize = S3Response._authenticate_and_authorize_s3_action

    def by_key(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
        if self.data.get("Action") != "DeleteObject" or key_name is not None:
            authorize(self, bucket_name=bucket_name, key_name=key_name)
            return
        objects = xmltodict.parse(self.body)["Delete"]["Object"]
        for each in objects if isinstance(objects, list) else [objects]:
            authorize(self, bucket_name=bucket_name, key_name=each["Key"])

    patch.setattr(S3Response, "_authenticate_and_authorize_s3_action", by_key)


def _record_decisions(patch: pytest.MonkeyPatch, decisions: list[tuple[bool, str, str]]) -> None:
    from moto.iam.access_control import IAMRequestBase

    check = IAMRequestBase.check_action_permitted

    def checked(self: Any, resource: str) -> None:
        if self._action.startswith("sqs:"):  # AWS has one permission for a request and its batches
            self._action = self._action.removesuffix("Batch")
        try:
            check(self, resource)
        except Exception:
            decisions.append((False, self._action, resource))
            raise
        decisions.append((True, self._action, resource))

    patch.setattr(IAMRequestBase, "check_action_permitted", checked)
