-- Features of a customer at the end of a day: over that day, 7 days and 30 days.
-- Amounts are added without conversion of currencies.
with daily as (
  select
    dt,
    customer_id,
    count(*) as changes, -- Number of changes.
    count(case when op = 'insert' and status = 'created' then 1 end) as created, -- Number of orders created.
    count(case when enters_status and status = 'paid' then 1 end) as paid, -- Number of orders paid.
    count(case when enters_status and status = 'cancelled' then 1 end) as cancelled, -- Number of orders cancelled.
    coalesce(sum(case when op = 'insert' and status = 'created' then amount end), 0) as amount_created -- Sum of the amounts of created orders.
  from events
  where customer_id is not null
  group by
    dt,
    customer_id
)
select
  as_of as dt,
  customer_id,
  cast(sum(case when in_1d then changes else 0 end) as bigint) as changes_1d,
  cast(sum(case when in_7d then changes else 0 end) as bigint) as changes_7d,
  cast(sum(changes) as bigint) as changes_30d,
  cast(sum(case when in_1d then created else 0 end) as bigint) as created_1d,
  cast(sum(case when in_7d then created else 0 end) as bigint) as created_7d,
  cast(sum(created) as bigint) as created_30d,
  cast(sum(case when in_1d then paid else 0 end) as bigint) as paid_1d,
  cast(sum(case when in_7d then paid else 0 end) as bigint) as paid_7d,
  cast(sum(paid) as bigint) as paid_30d,
  cast(sum(case when in_1d then cancelled else 0 end) as bigint) as cancelled_1d,
  cast(sum(case when in_7d then cancelled else 0 end) as bigint) as cancelled_7d,
  cast(sum(cancelled) as bigint) as cancelled_30d,
  cast(sum(case when in_1d then cancelled end) as double)
    / nullif(sum(case when in_1d then created end), 0) as cancelled_share_1d, -- Share of orders that were cancelled.
  cast(sum(case when in_7d then cancelled end) as double)
    / nullif(sum(case when in_7d then created end), 0) as cancelled_share_7d,
  cast(sum(cancelled) as double)
    / nullif(sum(created), 0) as cancelled_share_30d,
  cast(sum(case when in_1d then amount_created else 0 end) as decimal(38, 2)) as amount_created_1d,
  cast(sum(case when in_7d then amount_created else 0 end) as decimal(38, 2)) as amount_created_7d,
  cast(sum(amount_created) as decimal(38, 2)) as amount_created_30d,
  count(case when in_1d then 1 end) as active_days_1d, -- Number of days with a change.
  count(case when in_7d then 1 end) as active_days_7d,
  count(*) as active_days_30d
from windows
join daily
  on daily.dt = windows.dt
group by
  as_of,
  customer_id
