"""Search everything that is stored for a subject: the bucket's objects, the table files of its stream, and all look-ups.

Run after an erasure, this proves that nothing was left behind.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from urllib.parse import unquote

import duckdb
from pyiceberg.conversions import to_bytes
from pyiceberg.expressions.literals import literal as iceberg_literal
from pyiceberg.schema import Schema
from pyiceberg.types import PrimitiveType

from lakehouse.contracts.sql import literal
from lakehouse.errors import ObjectNotFoundError, SourceChangedError
from lakehouse.landing.readers import bronze_rows
from lakehouse.landing.readers.content import DamagedContentError, InputObject, text_chunks
from lakehouse.landing.shared import SHARED_FOLDER, section_of
from lakehouse.maintenance.erase import subject_tables
from lakehouse.maintenance.subject import Subject
from lakehouse.pipeline.erasure_log import FOLDER
from lakehouse.pipeline.ingest import input_objects
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.lookups import dynamodb
from lakehouse.serving.lookups.paths import cached_copies, lookups_folder, version_of
from lakehouse.serving.lookups.publish import entity_keys, names_with
from lakehouse.serving.lookups.versions import list_versions
from lakehouse.storage.iceberg.manifests import referenced_files
from lakehouse.storage.objects.store import ObjectInfo, Objects, object_key

MAX_LINE_BYTES = 16 << 20
"""Longer lines are searched in pieces."""

OVERLAP_BYTES = 64 << 10
"""Bytes that two pieces of a long line share, so that a value is not cut apart."""


def find_residue(lake: Lake, subject: Subject, *, mentions_left: bool = False) -> list[str]:
    """List the URLs of everything that still holds the subject: matching rows, or text with all the values as words.

    With `mentions_left`, rows of others that mention the subject are no residue, nor is what is computed from them.
    Objects of other streams are skipped, because their rows have subjects of their own.
    """
    name = subject.stream.name
    bucket = lake.connection.bucket
    other_streams = set(lake.streams) - {name}
    infos = (
        info for info in lake.objects.list("") if not _belongs_to(info.key, other_streams) and not _is_record(info.key)
    )
    landing = (f"realtime/{name}/", f"incoming/{name}/")
    residue = [*_matching_shared_objects(lake, subject, mentions_left)]
    for info, url in _matching_objects(lake, lake.objects, bucket, infos, subject):
        if info.key.startswith(landing):
            matches = _in_landing(lake, _source(lake.objects, info), subject, mentions_left)
        else:
            matches = not (mentions_left and info.key.startswith("serving/") and _lacks_columns(lake, url, subject))
        residue += [url] if matches else []
    for table_name in subject_tables(lake, subject):
        table = lake.tables.load(table_name)
        objects = Objects.from_url(lake.connection, table.location())
        files = objects.list(object_key(table.location()))
        current = {unquote(object_key(path)) for path in referenced_files(table)} if mentions_left else set()
        residue += [
            url
            for info, url in _matching_objects(lake, objects, objects.bucket, files, subject, table.schema())
            if not (info.key in current and _lacks_columns(lake, url, subject))
        ]
    return [*residue, *_matching_lookups(lake, subject, residue)]


def _matching_shared_objects(lake: Lake, subject: Subject, mentions_left: bool) -> Iterator[str]:
    """Yield the URLs of shared landing objects whose section of the stream holds the subject."""
    for info in lake.objects.list(f"realtime/{SHARED_FOLDER}"):
        section = section_of(info.key, subject.stream.name)
        for source in input_objects(lake.objects, [section] if section else []):
            if _in_text(source, subject) and _in_landing(lake, source, subject, mentions_left):
                yield f"s3://{lake.connection.bucket}/{info.key}"


def _source(objects: Objects, info: ObjectInfo) -> InputObject:
    return InputObject(info.key, info.modified, info.size, partial(objects.open, info.key))


def _in_landing(lake: Lake, source: InputObject, subject: Subject, mentions_left: bool) -> bool:
    """Return whether a row of a landing object that holds the values is the subject's, or may be, because it can't be read.

    Without `mentions_left`, rows of others that mention the subject count as well.
    """
    counted = [subject.in_bronze(), "(_defect is not null and _raw is null)"]
    counted += [] if mentions_left else [subject.mentioned_in_bronze()]
    with lake.engine.cursor() as cursor:
        rows = bronze_rows(cursor, subject.stream.contract, [source])
        return bool(rows.query("landed", f"select 1 from landed where {' or '.join(counted)} limit 1").fetchall())


def _lacks_columns(lake: Lake, url: str, subject: Subject) -> bool:
    """Return whether an object is no table with the subject's columns, so that its words may be those of others' rows."""
    if not url.endswith(".parquet"):
        return not url.endswith(".avro")
    with lake.engine.cursor() as cursor:
        described = cursor.execute(f"describe from read_parquet({literal(url)}, hive_partitioning = false)").fetchall()
    columns = {name: kind.lower() for name, kind, *_ in described}
    return subject.in_table(columns) is None and not {"raw", "_raw"} & columns.keys()


def _matching_lookups(lake: Lake, subject: Subject, residue: Collection[str]) -> Iterator[str]:
    """Yield the local copies of look-ups, and the DynamoDB items, that hold the subject.

    A local copy holds what its version's object holds. A copy whose object is gone may hold anything.
    """
    for name in names_with(lake, subject.stream):
        urls = {
            version.stem: f"s3://{lake.connection.bucket}/{version.key}"
            for version in list_versions(lake.objects, name)
        }
        for path in cached_copies(lookups_folder(lake.settings), name):
            url = urls.get(version_of(path))
            if url is None or url in residue:
                yield str(path)
    if table := dynamodb.open_table(lake.settings):
        for name, id_ in entity_keys(lake, subject.stream, subject.values):
            if table.holds(name, id_):
                yield f"an item of {name} in DynamoDB's table {lake.settings.dynamodb_table}"


def _belongs_to(key: str, streams: set[str]) -> bool:
    if key.startswith(f"realtime/{SHARED_FOLDER}/"):
        return True  # searched by section
    parts = re.split(r"[/.]|_daily_metrics|_features|_lookup", key)
    return bool(streams & set(parts))


def _is_record(key: str) -> bool:
    return key.startswith((f"{FOLDER}/", "dagster/"))


def _matching_objects(
    lake: Lake,
    objects: Objects,
    bucket: str,
    infos: Iterable[ObjectInfo],
    subject: Subject,
    schema: Schema | None = None,
) -> Iterator[tuple[ObjectInfo, str]]:
    """Yield the objects that hold the subject, each with its URL."""
    for info in infos:
        if not info.size:
            continue
        url = f"s3://{bucket}/{info.key}"
        try:
            if info.key.endswith(".parquet"):
                with lake.engine.cursor() as cursor:
                    matches = _in_rows(cursor, f"read_parquet({literal(url)}, hive_partitioning = false)", subject)
            elif info.key.endswith(".avro"):
                matches = schema is not None and _in_bounds(lake, f"read_avro({literal(url)})", subject, schema)
            else:
                matches = _in_text(_source(objects, info), subject)
        except duckdb.IOException:
            if objects.head(info.key) is not None:
                raise
            continue  # deleted during the scan
        except duckdb.Error as error:
            if not _is_damaged(error):
                raise
            matches = _in_text(_source(objects, info), subject)
        if matches:
            yield info, url


def _is_damaged(error: duckdb.Error) -> bool:
    """Return whether the error says that the file is truncated or corrupt, such as a bad upload into `incoming/`.

    DuckDB raises some of these errors as plain `duckdb.Error`.
    """
    return isinstance(error, duckdb.InvalidInputException) or type(error) is duckdb.Error


def _in_rows(cursor: duckdb.DuckDBPyConnection, source: str, subject: Subject) -> bool:
    """Return whether a file has rows of the subject, by its columns if it has them, else by the words of its text columns."""
    columns = {name: kind.lower() for name, kind, *_ in cursor.execute(f"describe from {source}").fetchall()}
    where = subject.in_file(columns)
    return where is not None and bool(cursor.execute(f"select 1 from {source} where {where} limit 1").fetchall())


def _in_bounds(lake: Lake, source: str, subject: Subject, schema: Schema) -> bool:
    """Return whether a manifest has the subject's value as a lower or upper bound of a data file."""
    names = {column.name for column in schema.fields}
    if len(subject.values) > 1 or not subject.values.keys() <= names:
        return False  # bounds of several columns do not belong to one row
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


def _in_text(source: InputObject, subject: Subject) -> bool:
    """Return whether a line of a text object, compressed or not, has the values. A truncated object is read as far as possible."""
    rest = b""
    try:
        for piece in text_chunks(source):
            *lines, rest = (rest + piece).split(b"\n")
            if any(subject.in_text(line.decode("utf-8", "replace")) for line in lines):
                return True
            if len(rest) > MAX_LINE_BYTES:
                if subject.in_text(rest.decode("utf-8", "replace")):
                    return True
                rest = rest[-OVERLAP_BYTES:]
    except (DamagedContentError, SourceChangedError, ObjectNotFoundError):
        pass  # the readable part was searched; an object that changed or vanished was changed by another writer
    return subject.in_text(rest.decode("utf-8", "replace"))
