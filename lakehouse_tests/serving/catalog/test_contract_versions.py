"""Each version of a contract is kept, and changes from one to the next are listed by field."""

from pathlib import Path

import pytest
import yaml

from lakehouse.contracts.odcs import CONTRACT_FILE
from lakehouse.contracts.streams import Stream, discover
from lakehouse.serving.catalog.contract_versions import contract_changes, contract_info, record_contracts
from lakehouse.settings import Settings
from lakehouse_tests.pipeline.own import copy_stream

BEFORE = """
name: trips
version: 1.0.0
description: {purpose: Trips.}
schema:
  - name: trips
    properties:
      - {name: id, logicalType: string, primaryKey: true}
      - {name: fare, logicalType: number, logicalTypeOptions: {minimum: 0}}
customProperties:
  - {property: eventTime, value: at}
slaProperties:
  - {property: freshness, value: 5, unit: m}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: trips\n", "name: trips  # a comment\n", []),
        ("1.0.0", "1.1.0", [("version", '"1.0.0"', '"1.1.0"')]),
        ("Trips.", "Rides.", [("description.purpose", '"Trips."', '"Rides."')]),
        ("minimum: 0", "minimum: 1", [("fare.logicalTypeOptions.minimum", "0", "1")]),
        ("{minimum: 0}", "{}", [("fare.logicalTypeOptions.minimum", "0", None)]),
        (", primaryKey: true", ", required: true", [("id.primaryKey", "true", None), ("id.required", None, "true")]),
        ("name: id,", "name: key,", [("id", '{"logicalType": "string", "primaryKey": true}', None),
                                     ("key", None, '{"logicalType": "string", "primaryKey": true}')]),
        ("value: 5", "value: 9", [("slaProperties.freshness.value", "5", "9")]),
        ("value: at", "value: began", [("customProperties.eventTime.value", '"at"', '"began"')]),
    ],
)  # fmt: skip
def test_changes_name_the_field_and_both_values(
    old: str, new: str, expected: list[tuple[str, str | None, str | None]]
) -> None:
    before, after = yaml.safe_load(BEFORE), yaml.safe_load(BEFORE.replace(old, new))
    assert [(each.where, each.before, each.after) for each in contract_changes(before, after)] == expected


def test_version_is_kept_once_and_compared_with_the_one_before(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    copy_stream(tmp_path / "streams", "kept")

    def record() -> Stream:
        stream = discover([tmp_path / "streams"], examples=False)["kept"]
        record_contracts(settings, [stream])
        record_contracts(settings, [stream])
        return stream

    path = record().folder / CONTRACT_FILE
    path.write_text(path.read_text().replace("version: 1.0.0", "version: 2.0.0"))
    info = contract_info(settings, record())
    assert [version.version for version in info.versions] == ["2.0.0", "1.0.0"]
    assert [[change.where for change in version.changes] for version in info.versions] == [["version"], []]
    assert info.text == path.read_text()
