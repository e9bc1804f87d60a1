-- Alert on transactions of at least the high value, in their own currency and with any status.
with settings as (
  select
    10000.00 as high_value,
    100000.00 as critical_value
)
select
  events.dt,
  'high_value_transactions' as alert,
  case when events.amount >= settings.critical_value then 'critical' else 'warning' end as severity,
  events.account_id as entity,
  events.event_time,
  cast(events.amount as double) as value,
  cast(settings.high_value as double) as threshold,
  events.type || ' of ' || cast(events.amount as varchar) || ' ' || events.currency
    || ' is ' || events.status as message,
  events.event_id as event_key
from events
cross join settings
where events.amount >= settings.high_value
