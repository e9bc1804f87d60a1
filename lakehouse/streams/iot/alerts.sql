-- Alert on readings outside the plausible range of their metric. Readings far outside are critical.
with settings as (
  select 0.5 as critical_distance -- as a share of the range's width
)
select
  events.dt,
  'out_of_range_readings' as alert,
  case
    when events.value_normalised - events.plausible_max
      > (events.plausible_max - events.plausible_min) * settings.critical_distance then 'critical'
    when events.plausible_min - events.value_normalised
      > (events.plausible_max - events.plausible_min) * settings.critical_distance then 'critical'
    else 'warning'
  end as severity,
  events.device_id as entity,
  events.event_time,
  events.value_normalised as value,
  case
    when events.value_normalised > events.plausible_max then events.plausible_max
    else events.plausible_min
  end as threshold,
  events.metric || ' of ' || cast(events.value_normalised as varchar) || ' ' || events.unit_normalised
    || ' is outside ' || cast(events.plausible_min as varchar)
    || ' to ' || cast(events.plausible_max as varchar) as message,
  events.event_id as event_key
from events
cross join settings
where events.out_of_range
