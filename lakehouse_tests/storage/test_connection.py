"""External storage by settings alone: the same objects and catalogs on what stands in for AWS."""

from pathlib import Path

from pyiceberg.catalog import load_catalog

from lakehouse.storage.embedded import lifecycle as server
from lakehouse.storage.objects.store import Objects
from lakehouse_tests.storage.amazon import s3_and_glue


def test_s3_and_glue_are_reached_by_settings_alone(aws: str, tmp_path: Path) -> None:
    settings = s3_and_glue(aws, tmp_path)
    connection = server.connection(settings)
    assert connection.catalog_uri == aws
    objects = Objects.from_connection(connection)
    assert objects.put("a/b", b"1", if_absent=True) is True
    assert objects.put("a/b", b"2", if_absent=True) is False
    assert objects.put_stream("a/large", [bytes(1 << 20)] * 40) is True
    assert [(found.key, found.size) for found in objects.list("a")] == [("a/b", 1), ("a/large", 40 << 20)]
    catalog = load_catalog("lakehouse", **connection.catalog)
    catalog.create_namespace("bronze")
    assert catalog.list_namespaces() == [("bronze",)]
