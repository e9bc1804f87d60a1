"""Generate the SQL that makes changes into a history: a row for each version of an entity, with when it was valid."""

from lakehouse.contracts.sql import literal, quote
from lakehouse.models.header import History


def history_sql(changes: str, history: History) -> str:
    """Generate the SELECT of a dimension of type 2 from the SELECT of its changes.

    It adds `valid_from`, `valid_to` (null for the current version) and `is_current`. A change that changes nothing makes
    no version; one that deletes ends the version before it. Two different changes with one key and version fail it.
    """
    key, version = ", ".join(map(quote, history.key)), quote(history.version)
    missing = " or ".join(f"{quote(name)} is null" for name in (*history.key, history.version))
    failure = literal(f"a row has no {' or no '.join((*history.key, history.version))}, so it is of no version")
    ambiguous = literal(
        f"two changes have one {' and '.join((*history.key, history.version))}; name a version that orders them"
    )
    by_version = f"over (partition by {key} order by {version})"
    return f"""with changes as (
{changes}
),
complete as (
  select distinct * from changes where case when {missing} then error({failure})::boolean else true end
),
states as (
  select *, row(*columns(* exclude ({version}))) as _state, ({history.deleted or "false"}) is true as _deleted
  from complete
  qualify case when count(*) over (partition by {key}, {version}) > 1 then error({ambiguous})::boolean else true end
),
versions as (
  select * from states
  qualify row_number() {by_version} = 1 or (_state, _deleted) is distinct from lag((_state, _deleted)) {by_version}
),
valid as (
  select
    * exclude (_state),
    {version} as valid_from,
    lead({version}) {by_version} as valid_to
  from versions
)
select * exclude (_deleted), valid_to is null as is_current
from valid
where not _deleted"""
