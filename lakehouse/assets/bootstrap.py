"""The bootstrap asset: the tables that contracts and SQL ask for."""

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import key


@dg.asset(
    key=key("infra", "bootstrap"),
    group_name="infra",
    owners=["team:lakehouse"],
    tags={"layer": "infra"},
    kinds={"iceberg"},
    description="Creates missing tables and adds the columns that contracts or SQL gained. Safe to repeat.",
)
def bootstrap(lake: LakeResource) -> dg.MaterializeResult[None]:
    """Create or evolve every table."""
    changes = lake.lake.bootstrap()
    text = dg.MetadataValue.md("\n".join(f"- {change}" for change in changes) or "nothing to do")
    return dg.MaterializeResult(metadata={"changes": text, "tables_changed": len(changes)})
