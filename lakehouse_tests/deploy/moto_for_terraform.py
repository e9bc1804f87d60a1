"""Complete moto with requests of Terraform's AWS provider that it lacks, and write the override file that leads there."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SERVICES = (
    *("acm", "athena", "budgets", "ce", "cloudtrail", "cloudwatch", "dynamodb", "ec2", "ecr", "ecs", "efs", "elbv2"),
    *("events", "firehose", "glue", "iam", "kinesis", "kms", "logs", "rds", "s3", "s3control", "secretsmanager"),
    *("sns", "sqs", "sts"),
)


def override(endpoint: str) -> str:
    """Write a file that Terraform merges over the others: https://developer.hashicorp.com/terraform/language/files/override.

    moto takes a policy that denies requests without TLS as one that denies all, so those two are left out. It forgets two
    arguments of a service.
    """
    endpoints = "\n".join(f'    {service} = "{endpoint}"' for service in SERVICES)
    return f"""
provider "aws" {{
  access_key                  = "test"
  secret_key                  = "test"
  max_retries                 = 2
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  endpoints {{
{endpoints}
  }}
}}
resource "aws_s3_bucket_policy" "lake" {{ count = 0 }}
resource "aws_s3_bucket_policy" "audit" {{ count = 0 }}
resource "aws_ecs_service" "up" {{
  lifecycle {{ ignore_changes = [availability_zone_rebalancing, health_check_grace_period_seconds] }}
}}
"""


@contextmanager
def moto_for_terraform() -> Iterator[str]:
    """Run moto with what it lacks, and yield its URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        from moto.server import ThreadedMotoServer  # it reads the variable when it is imported

        _complete(patch.setattr)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        try:
            yield "http://{}:{}".format(*server.get_host_and_port())
        finally:
            server.stop()


def _complete(patch: Callable[..., None]) -> None:
    from moto.budgets.responses import BudgetsResponse
    from moto.s3.responses import S3Response
    from moto.sqs.models import Queue

    def subscribers(self: Any) -> str:
        budget = self.backend.budgets[self._get_param("AccountId")][self._get_param("BudgetName")]
        wanted = self._get_param("Notification")
        names = ("NotificationType", "ComparisonOperator")
        found = [
            notification.subscribers
            for notification in budget.notifications
            if all(notification.details.get(name) == wanted.get(name) for name in names)
            and float(notification.details["Threshold"]) == float(wanted["Threshold"])
        ]
        return json.dumps({"Subscribers": found[0] if found else []})

    def tags(self: Any) -> str:
        return json.dumps({"ResourceTags": [{"Key": "project", "Value": "lake"}]})

    patch(BudgetsResponse, "describe_subscribers_for_notification", subscribers, raising=False)
    patch(BudgetsResponse, "list_tags_for_resource", tags, raising=False)

    notification, queue = S3Response.get_bucket_notification, Queue.attributes
    attributes: Any = queue.fget  # type: ignore[attr-defined]  # it is a property

    def with_event_bridge(self: Any) -> Any:
        answer = notification(self)
        held = self.backend.get_bucket_notification_configuration(self.bucket_name)
        if held is None or held.event_bridge is None:
            return answer
        status, headers, _ = answer
        return status, headers, "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>"

    def compact(self: Any) -> Any:
        found = attributes(self)
        if "RedrivePolicy" in found:
            found["RedrivePolicy"] = json.dumps(self.redrive_policy, separators=(",", ":"))
        return found

    patch(S3Response, "get_bucket_notification", with_event_bridge)
    patch(Queue, "attributes", property(compact))
