"""Looks for a subject in everything that is stored: every object of the bucket, every file of the stream's tables, and
look-ups wherever they are copied to.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from urllib.parse import urlparse

import duckdb
from pyiceberg.conversions import to_bytes
from pyiceberg.expressions.literals import literal as iceberg_literal
from pyiceberg.schema import Schema
from pyiceberg.types import PrimitiveType

from lakehouse.contracts.sql import literal
from lakehouse.errors import ObjectNotFoundError, SourceChangedError
from lakehouse.landing.readers.content import Damage, plain
from lakehouse.landing.readers.source import Source
from lakehouse.maintenance.erase import table_names
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.erasure_log import FOLDER
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.lookups import dynamodb
from lakehouse.serving.lookups.paths import CUSTOMERS, copies, copies_of, version_of
from lakehouse.serving.lookups.publish import keys, published
from lakehouse.storage.objects.store import ObjectInfo, Objects

LONGEST = 16 << 20
"""Bytes of a line that are looked at as one."""

OVERLAP = 64 << 10


def find_traces(lake: Lake, subject: Subject) -> list[str]:
    """The URLs of what still holds the subject's values: rows of theirs, or text with all of them as words.

    Objects of other streams are left out: their rows have subjects of their own.
    """
    name = subject.stream.name
    bucket = lake.connection.bucket
    others = set(lake.streams) - {name}
    mine = (info for info in lake.objects.list("") if not _is_of(info.key, others) and not _is_record(info.key))
    found = list(_among(lake, lake.objects, bucket, mine, subject))
    for table_name in table_names(lake, subject):
        table = lake.tables.load(table_name)
        location = urlparse(table.location())
        objects = Objects.from_connection(replace(lake.connection, bucket=location.netloc))
        files = objects.list(location.path.strip("/"))
        found += _among(lake, objects, location.netloc, files, subject, table.schema())
    return [*found, *_in_look_ups(lake, subject, found)]


def _in_look_ups(lake: Lake, subject: Subject, found: Collection[str]) -> Iterator[str]:
    """The copies of look-ups on this machine, and the items in DynamoDB, that tell of the subject.

    A copy holds what the object of its version does; one whose object is gone may hold anybody.
    """
    for name in (subject.stream.name, CUSTOMERS):
        objects = {one.stem: f"s3://{lake.connection.bucket}/{one.key}" for one in published(lake.objects, name)}
        for path in copies_of(copies(lake.settings), name):
            url = objects.get(version_of(path))
            if url is None or url in found:
                yield str(path)
    if table := dynamodb.open_table(lake.settings):
        for name, id_ in keys(lake, subject.stream, subject.values):
            if table.holds(name, id_):
                yield f"an item of {name} in DynamoDB's table {lake.settings.dynamodb_table}"


def _is_of(key: str, streams: set[str]) -> bool:
    parts = re.split(r"[/.]|_daily_metrics|_features|_lookup", key)
    return bool(streams & set(parts))


def _is_record(key: str) -> bool:
    return key.startswith((f"{FOLDER}/", "dagster/"))


def _among(
    lake: Lake,
    objects: Objects,
    bucket: str,
    infos: Iterator[ObjectInfo],
    subject: Subject,
    schema: Schema | None = None,
) -> Iterator[str]:
    for info in infos:
        if not info.size:
            continue
        url = f"s3://{bucket}/{info.key}"
        try:
            if info.key.endswith(".parquet"):
                with lake.engine.cursor() as cursor:
                    found = _matches(cursor, f"read_parquet({literal(url)}, hive_partitioning = false)", subject)
            elif info.key.endswith(".avro"):
                found = schema is not None and _in_bounds(lake, f"read_avro({literal(url)})", subject, schema)
            else:
                found = _in_text(objects, info, subject)
        except duckdb.IOException:
            if objects.head(info.key) is not None:
                raise
            continue  # it went while we looked
        except duckdb.Error as problem:
            if not _is_of_the_file(problem):
                raise
            found = _in_text(objects, info, subject)
        if found:
            yield url


def _is_of_the_file(problem: duckdb.Error) -> bool:
    """Whether a file is cut short or broken, such as one that somebody dropped; some of those errors have no name."""
    return isinstance(problem, duckdb.InvalidInputException) or type(problem) is duckdb.Error


def _matches(cursor: duckdb.DuckDBPyConnection, source: str, subject: Subject) -> bool:
    """Whose rows a file holds is told by its columns; where it has others, by their words."""
    columns = {name: kind.lower() for name, kind, *_ in cursor.execute(f"describe from {source}").fetchall()}
    where = subject.in_file(columns)
    return where is not None and bool(cursor.execute(f"select 1 from {source} where {where} limit 1").fetchall())


def _in_bounds(lake: Lake, source: str, subject: Subject, schema: Schema) -> bool:
    """Manifests say the least and the greatest value of each column of a file."""
    names = {column.name for column in schema.fields}
    if len(subject.values) > 1 or not subject.values.keys() <= names:
        return False  # bounds of several columns are not of one row
    ((name, value),) = subject.values.items()
    column = schema.find_field(name)
    if not isinstance(column.field_type, PrimitiveType):
        return False
    try:
        bound = to_bytes(column.field_type, iceberg_literal(value).to(column.field_type).value)
    except (ValueError, TypeError):
        return False
    same = " or ".join(
        f"element_at(data_file.{which}, {column.field_id})[1] = from_hex('{bound.hex()}')"
        for which in ("lower_bounds", "upper_bounds")
    )
    with lake.engine.cursor() as cursor:
        if "data_file" not in {name for name, *_ in cursor.execute(f"describe from {source}").fetchall()}:
            return False
        return bool(cursor.execute(f"select 1 from {source} where {same} limit 1").fetchall())


def _in_text(objects: Objects, info: ObjectInfo, subject: Subject) -> bool:
    """Whether a line of a text, compressed or not, has the values; one that is cut short is read as far as it goes."""
    rest = b""
    source = Source(info.key, info.modified, info.size, partial(objects.open, info.key))
    try:
        for piece in plain(source):
            *lines, rest = (rest + piece).split(b"\n")
            if any(subject.in_text(line.decode("utf-8", "replace")) for line in lines):
                return True
            if len(rest) > LONGEST:
                if subject.in_text(rest.decode("utf-8", "replace")):
                    return True
                rest = rest[-OVERLAP:]
    except (Damage, SourceChangedError, ObjectNotFoundError):
        pass  # what is broken off has been looked at; what changed or went meanwhile is others' work
    return subject.in_text(rest.decode("utf-8", "replace"))
