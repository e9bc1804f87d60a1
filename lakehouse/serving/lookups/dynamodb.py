"""The optional DynamoDB table of look-ups: one item per entity, whose key `pk` is `{look-up}#{id}`.

Values are DynamoDB's own: numbers exact, times and dates as ISO 8601 text, lists and maps nested.
"""

from collections.abc import Iterable, Iterator, Set
from datetime import date, datetime
from decimal import Context, Decimal, Inexact, Rounded
from math import isfinite
from typing import Any

import pyarrow as pa

from lakehouse.aws import explain
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.settings import Settings
from lakehouse.sources.aws import aws_keys

KEY = "pk"
VERSION_KEY = "#version#"
"""Before a look-up's name, the key of the item with the version that the table holds. No look-up's name starts with #."""

NUMBER_CONTEXT = Context(prec=38, Emin=-128, Emax=126, traps=[Inexact, Rounded])
"""The range of DynamoDB's numbers, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html."""


class DynamoDBTable:
    """The table. Every write is idempotent."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def version(self, name: str) -> str | None:
        """Return the version that `set_version` noted last; None when no write has finished yet."""
        item = self._table.get_item(Key={KEY: VERSION_KEY + name}, ConsistentRead=True).get("Item")
        return str(item["version"]) if item else None

    def set_version(self, name: str, version: str) -> None:
        """Record that the table holds this version completely."""
        self._table.put_item(Item={KEY: VERSION_KEY + name, "version": version})

    def holds(self, name: str, id_: str) -> bool:
        """Return whether there is an item of this entity."""
        return "Item" in self._table.get_item(Key={KEY: f"{name}#{id_}"}, ConsistentRead=True)

    def put(self, name: str, rows: pa.RecordBatchReader) -> None:
        """Write rows as items, 25 per request. Items that DynamoDB does not process are sent again."""
        with self._table.batch_writer(overwrite_by_pkeys=[KEY]) as batch:
            for row in _rows(rows):
                batch.put_item(Item={**row, KEY: f"{name}#{row['id']}"})

    def delete(self, name: str, ids: Iterable[str]) -> None:
        """Delete these entities."""
        with self._table.batch_writer(overwrite_by_pkeys=[KEY]) as batch:
            for id_ in ids:
                batch.delete_item(Key={KEY: f"{name}#{id_}"})

    def keep_only(self, name: str, ids: Set[str]) -> None:
        """Delete the look-up's entities that are not among these. Reads every key of the table."""
        prefix = f"{name}#"
        unwanted: list[str] = []
        page_start: dict[str, Any] = {}
        while True:
            page = self._table.scan(
                ProjectionExpression=KEY,
                FilterExpression="begins_with(pk, :prefix)",
                ExpressionAttributeValues={":prefix": prefix},
                **page_start,
            )
            unwanted += [key for item in page["Items"] if (key := item[KEY].removeprefix(prefix)) not in ids]
            if not (last := page.get("LastEvaluatedKey")):
                break
            page_start = {"ExclusiveStartKey": last}
        self.delete(name, unwanted)


def open_table(settings: Settings) -> DynamoDBTable | None:
    """Open the table of the settings, and create it when it is missing. None when none is set.

    Raises StorageUnavailableError when DynamoDB does not answer, and LakehouseError when it refuses the credentials.
    """
    if settings.dynamodb_table is None:
        return None
    import boto3  # takes half a second, which only a DynamoDB user should pay
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(retries={"mode": "adaptive", "max_attempts": 10})
    resource = boto3.resource(
        "dynamodb",
        region_name=settings.s3_region,
        endpoint_url=settings.dynamodb_endpoint,
        config=config,
        **aws_keys(settings),
    )
    table = resource.Table(settings.dynamodb_table)
    try:
        try:
            table.load()
        except resource.meta.client.exceptions.ResourceNotFoundException:
            table = resource.create_table(
                TableName=settings.dynamodb_table,
                KeySchema=[{"AttributeName": KEY, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": KEY, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
            table.wait_until_exists()
    except (BotoCoreError, ClientError) as error:
        if advice := explain(error):
            raise LakehouseError(f"Can't use DynamoDB's table {settings.dynamodb_table}: {advice}") from error
        raise StorageUnavailableError(
            f"DynamoDB's table {settings.dynamodb_table} can't be reached: {error}. Check LAKEHOUSE_DYNAMODB_TABLE,"
            " LAKEHOUSE_DYNAMODB_ENDPOINT and the AWS credentials."
        ) from error
    return DynamoDBTable(table)


def _rows(reader: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    for batch in reader:
        for row in batch.to_pylist():
            yield {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    match value:
        case float():
            # DynamoDB has no NaN and no infinity.
            return _exact(Decimal(repr(value))) if isfinite(value) else None
        case Decimal():
            return _exact(value)
        case datetime():
            return value.isoformat() + ("" if value.tzinfo else "Z")
        case date():
            return value.isoformat()
        case dict():
            return {name: _value(item) for name, item in value.items()}
        case list():
            return [_value(item) for item in value]
        case _:
            return value


def _exact(number: Decimal) -> Decimal | str:
    """Return a number where DynamoDB holds it exactly, else its text."""
    try:
        return NUMBER_CONTEXT.create_decimal(number)
    except ArithmeticError:
        return f"{number:f}"
