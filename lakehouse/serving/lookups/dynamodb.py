"""The DynamoDB table of look-ups, where one is set: an item an entity, its key `pk` = `{look-up}#{id}`.

Values are DynamoDB's own: numbers exact, times and dates as ISO 8601 text, lists and maps nested.
"""

from collections.abc import Iterable, Iterator, Set
from datetime import date, datetime
from decimal import Context, Decimal, Inexact, Rounded
from math import isfinite
from typing import Any

import pyarrow as pa

from lakehouse.errors import StorageUnavailableError
from lakehouse.settings import Settings

KEY = "pk"
MARK = "#version#"
"""The key of the item that says which version of a look-up the table holds; no look-up's name begins with #."""

EXACT = Context(prec=38, Emin=-128, Emax=126, traps=[Inexact, Rounded])
"""What DynamoDB's numbers hold, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html."""


class DynamoDBTable:
    """The table; writing the same items again changes nothing."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def version(self, name: str) -> str | None:
        """What `remember` was told last; None when a writing was not finished or never begun."""
        item = self._table.get_item(Key={KEY: MARK + name}, ConsistentRead=True).get("Item")
        return str(item["version"]) if item else None

    def remember(self, name: str, version: str) -> None:
        """Write down that the table holds this version, whole."""
        self._table.put_item(Item={KEY: MARK + name, "version": version})

    def holds(self, name: str, id_: str) -> bool:
        """Whether there is an item of this entity."""
        return "Item" in self._table.get_item(Key={KEY: f"{name}#{id_}"}, ConsistentRead=True)

    def put(self, name: str, rows: pa.RecordBatchReader) -> None:
        """Write a batch's rows as items, 25 a request; what DynamoDB leaves undone is sent again."""
        with self._table.batch_writer(overwrite_by_pkeys=[KEY]) as batch:
            for row in _rows(rows):
                batch.put_item(Item={KEY: f"{name}#{row['id']}", **row})

    def delete(self, name: str, ids: Iterable[str]) -> None:
        """Delete these entities."""
        with self._table.batch_writer(overwrite_by_pkeys=[KEY]) as batch:
            for one in ids:
                batch.delete_item(Key={KEY: f"{name}#{one}"})

    def keep_only(self, name: str, ids: Set[str]) -> None:
        """Delete the look-up's entities that are none of these; reads every key of the table."""
        prefix = f"{name}#"
        gone: list[str] = []
        more: dict[str, Any] = {}
        while True:
            page = self._table.scan(
                ProjectionExpression=KEY,
                FilterExpression="begins_with(pk, :prefix)",
                ExpressionAttributeValues={":prefix": prefix},
                **more,
            )
            gone += [key for item in page["Items"] if (key := item[KEY].removeprefix(prefix)) not in ids]
            if not (last := page.get("LastEvaluatedKey")):
                break
            more = {"ExclusiveStartKey": last}
        self.delete(name, gone)


def open_table(settings: Settings) -> DynamoDBTable | None:
    """The table of the settings, made when it is missing; None when none is set. Raises StorageUnavailableError."""
    if settings.dynamodb_table is None:
        return None
    import boto3  # half a second, for the few who set one
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(retries={"mode": "adaptive", "max_attempts": 10})
    resource = boto3.resource(
        "dynamodb", region_name=settings.s3_region, endpoint_url=settings.dynamodb_endpoint, config=config
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
    except (BotoCoreError, ClientError) as problem:
        raise StorageUnavailableError(
            f"DynamoDB's table {settings.dynamodb_table} can't be reached: {problem}. Look at LAKEHOUSE_DYNAMODB_TABLE,"
            " LAKEHOUSE_DYNAMODB_ENDPOINT and the credentials of AWS."
        ) from problem
    return DynamoDBTable(table)


def _rows(reader: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    for batch in reader:
        for row in batch.to_pylist():
            yield {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    match value:
        case float():
            # DynamoDB knows no NaN and no infinity.
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
    """As a number where DynamoDB holds it exactly, else as text."""
    try:
        return EXACT.create_decimal(number)
    except ArithmeticError:
        return f"{number:f}"
