"""External storage: settings alone lead to objects and catalogs, here on moto in place of AWS."""

from pathlib import Path

from pyiceberg.catalog import load_catalog

from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.storage.aws import aws_settings


def test_settings_alone_reach_s3_and_glue(aws: str, tmp_path: Path) -> None:
    settings = aws_settings(aws, tmp_path)
    connection = storage.connection(settings)
    assert connection.catalog_uri == aws
    objects = Objects.from_connection(connection)
    assert objects.put("a/b", b"1", if_absent=True) is True
    assert objects.put("a/b", b"2", if_absent=True) is False
    assert objects.put_stream("a/large", [bytes(1 << 20)] * 40) is True
    assert [(info.key, info.size) for info in objects.list("a")] == [("a/b", 1), ("a/large", 40 << 20)]
    catalog = load_catalog("lakehouse", **connection.catalog)
    catalog.create_namespace("bronze")
    assert catalog.list_namespaces() == [("bronze",)]
