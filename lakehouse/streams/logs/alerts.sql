-- Alert on services that write many ERROR and FATAL lines within five minutes of the clock (00, 05, 10, ...).
with settings as (
  select
    20 as burst,
    100 as critical_burst
),
bursts as (
  select
    dt,
    service_normalised as service,
    date_trunc('hour', event_time)
      + interval 5 minutes * cast(floor(extract(minute from event_time) / 5) as bigint) as window_start,
    min(event_time) as first_error,
    count(*) as errors
  from events
  where is_error
  group by
    dt,
    service_normalised,
    window_start
)
select
  bursts.dt,
  'error_bursts' as alert,
  case when bursts.errors >= settings.critical_burst then 'critical' else 'warning' end as severity,
  bursts.service as entity,
  bursts.first_error as event_time,
  cast(bursts.errors as double) as value,
  cast(settings.burst as double) as threshold,
  bursts.service || ' wrote ' || cast(bursts.errors as varchar) || ' errors in the 5 minutes from '
    || cast(bursts.window_start as varchar) as message,
  cast(bursts.window_start as varchar) as event_key
from bursts
cross join settings
where bursts.errors >= settings.burst
