-- Alert on cancelled orders of at least the high value, in their own currency.
with settings as (
  select
    500.00 as high_value,
    5000.00 as critical_value
)
select
  events.dt,
  'high_value_cancellations' as alert,
  case when events.amount >= settings.critical_value then 'critical' else 'warning' end as severity,
  events.customer_id as entity,
  events.event_time,
  cast(events.amount as double) as value,
  cast(settings.high_value as double) as threshold,
  'order ' || events.order_id || ' of ' || cast(events.amount as varchar)
    || case when events.currency is null then '' else ' ' || events.currency end || ' was cancelled' as message,
  events.order_id || ':' || cast(events.version as varchar) as event_key
from events
cross join settings
where events.enters_status
  and events.status = 'cancelled'
  and events.amount >= settings.high_value
