"""The graph is the reviewed one, and each asset has a description and an owner."""

import dagster as dg
import pytest

from lakehouse.contracts.streams import discover
from lakehouse.pipeline.table_specs import table_specs
from lakehouse_tests.assets.graph import FILE, as_text, checks, specs

SPECS = specs()
TABLES = {spec.name: spec for spec in table_specs(discover().values())}


def test_graph_matches_reviewed_snapshot() -> None:
    assert as_text() == FILE.read_text(), "run `python -m lakehouse_tests.assets.graph` and look at the difference"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key.to_user_string())
def test_every_asset_has_description_and_owner(spec: dg.AssetSpec) -> None:
    layer, name = spec.key.path
    assert spec.tags["layer"] == layer
    assert spec.description
    assert spec.owners
    assert spec.group_name
    assert spec.kinds
    if table := TABLES.get(f"{layer}.{name}"):
        schema = spec.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema)
        assert [column.name for column in schema.columns] == [column for column, _ in table.columns]
        assert spec.metadata["dagster/table_name"] == table.name


@pytest.mark.parametrize("stream", discover())
def test_each_stream_has_every_layer_in_one_group(stream: str) -> None:
    contract = discover()[stream].contract
    mine = {spec.key.to_user_string(): spec for spec in SPECS if spec.group_name == stream}
    assert sorted(mine) == sorted(
        [
            *(f"{layer}/{stream}" for layer in ("landing", "realtime", "bronze", "silver", "quarantine")),
            f"gold/{stream}_daily",
            f"serving/unified_{stream}",
            *(f"serving/{stream}_{what}" for what in ("alerts", "dashboard", "features", "lookup")),
            *(["serving/customers_lookup"] if stream == "retail" else []),
            *(["serving/iot_anomalies", "serving/iot_anomaly_state"] if stream == "iot" else []),
        ]
    )
    assert {tuple(spec.owners) for spec in mine.values()} == {(f"team:{contract.owner}",)}


def test_code_version_is_the_version_of_the_sql() -> None:
    stream = discover()["iot"]
    versions = {spec.key.to_user_string(): spec.code_version for spec in SPECS if spec.group_name == "iot"}
    assert {asset: version for asset, version in versions.items() if version} == {
        **dict.fromkeys(("silver/iot", "quarantine/iot", "realtime/iot"), stream.definition_of("silver").version),
        "gold/iot_daily": stream.definition_of("gold").version,
        "serving/iot_features": stream.definition_of("features").version,
        "serving/iot_alerts": stream.definition_of("alerts").version,
        **dict.fromkeys(("serving/iot_anomalies", "serving/iot_anomaly_state"), stream.anomaly_definition.version),
    }


def test_every_table_is_an_asset() -> None:
    assert {".".join(spec.key.path) for spec in SPECS} >= set(TABLES)


@pytest.mark.parametrize("stream", discover())
def test_conservation_key_and_required_checks_block(stream: str) -> None:
    names = set(checks()[f"silver/{stream}"])
    blocking = {f"{name} (blocking)" for name in ("conservation", "unique_key", "required")}
    assert names & {name for name in names if "blocking" in name} == blocking
    assert names - blocking <= {"range", "accepted_values", "quality_score", "volume", "columns", "freshness"}
