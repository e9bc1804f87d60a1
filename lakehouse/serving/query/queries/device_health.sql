/*
name: device_health
description: Devices with their readings, out-of-range readings, lowest battery and last reading; the worst first.
parameters:
  days: {type: integer, default: 1, minimum: 1, maximum: 90, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
  site: {type: text, default: null, description: "Only this site."}
  limit: {type: integer, default: 50, minimum: 1, maximum: 10000, description: "Maximum number of devices."}
*/
with devices as (
  select
    device_id,
    arg_max(site, event_time) as site,
    count(*) as readings,
    count(case when out_of_range then 1 end) as out_of_range,
    min(case when metric = 'battery' then value_normalised end) as lowest_battery,
    max(event_time) as last_seen
  from serving.unified_iot
  where dt between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
    and ($site is null or site = $site)
  group by device_id
)
select
  device_id,
  site,
  readings,
  out_of_range,
  cast(out_of_range as double) / readings as out_of_range_share,
  lowest_battery,
  last_seen,
  case
    when 10 * out_of_range >= readings or lowest_battery < 10 then 'critical'
    when 100 * out_of_range >= readings or lowest_battery < 20 then 'warning'
    else 'ok'
  end as health
from devices
order by
  case health when 'critical' then 1 when 'warning' then 2 else 3 end,
  out_of_range_share desc,
  device_id
limit $limit
