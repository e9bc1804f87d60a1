"""Infrastructure as assets: the tables that contracts and SQL call for."""

import dagster as dg

from lakehouse.assets.resources import LakeResource
from lakehouse.assets.specs import key


@dg.asset(
    key=key("infra", "bootstrap"),
    group_name="infra",
    owners=["team:lakehouse"],
    tags={"layer": "infra"},
    kinds={"iceberg"},
    description="Makes the tables that are missing and evolves those whose contract or SQL gained a column. Safe to repeat.",
)
def bootstrap(lake: LakeResource) -> dg.MaterializeResult[None]:
    """Make or evolve every table."""
    done = lake.lake.bootstrap()
    changes = dg.MetadataValue.md("\n".join(f"- {line}" for line in done) or "nothing to do")
    return dg.MaterializeResult(metadata={"changes": changes, "tables_changed": len(done)})
