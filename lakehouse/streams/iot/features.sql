-- Features of a device at the end of a day: over that day, 7 days and 30 days.
-- Values are in the metric's unit, and null if the window has no reading of the metric.
with daily as (
  select
    dt,
    device_id,
    count(*) as readings, -- Number of readings.
    count(case when out_of_range then 1 end) as out_of_range, -- Number of readings outside the normal range.
    sum(case when metric = 'temperature' then value_normalised end) as temperature_sum,
    count(case when metric = 'temperature' then 1 end) as temperature_readings,
    max(case when metric = 'vibration' then value_normalised end) as max_vibration, -- Largest vibration.
    min(case when metric = 'battery' then value_normalised end) as min_battery -- Lowest charge of the battery.
  from events
  where device_id is not null
  group by
    dt,
    device_id
)
select
  as_of as dt,
  device_id,
  cast(sum(case when in_1d then readings else 0 end) as bigint) as readings_1d,
  cast(sum(case when in_7d then readings else 0 end) as bigint) as readings_7d,
  cast(sum(readings) as bigint) as readings_30d,
  cast(sum(case when in_1d then out_of_range else 0 end) as bigint) as out_of_range_1d,
  cast(sum(case when in_7d then out_of_range else 0 end) as bigint) as out_of_range_7d,
  cast(sum(out_of_range) as bigint) as out_of_range_30d,
  cast(sum(case when in_1d then out_of_range end) as double)
    / nullif(sum(case when in_1d then readings end), 0) as out_of_range_share_1d, -- Share of readings outside the normal range.
  cast(sum(case when in_7d then out_of_range end) as double)
    / nullif(sum(case when in_7d then readings end), 0) as out_of_range_share_7d,
  cast(sum(out_of_range) as double)
    / nullif(sum(readings), 0) as out_of_range_share_30d,
  cast(sum(case when in_1d then temperature_sum end) as double)
    / nullif(sum(case when in_1d then temperature_readings end), 0) as avg_temperature_1d, -- Mean temperature.
  cast(sum(case when in_7d then temperature_sum end) as double)
    / nullif(sum(case when in_7d then temperature_readings end), 0) as avg_temperature_7d,
  cast(sum(temperature_sum) as double)
    / nullif(sum(temperature_readings), 0) as avg_temperature_30d,
  max(case when in_1d then max_vibration end) as max_vibration_1d,
  max(case when in_7d then max_vibration end) as max_vibration_7d,
  max(max_vibration) as max_vibration_30d,
  min(case when in_1d then min_battery end) as min_battery_1d,
  min(case when in_7d then min_battery end) as min_battery_7d,
  min(min_battery) as min_battery_30d,
  count(case when in_1d then 1 end) as active_days_1d, -- Number of days with a reading.
  count(case when in_7d then 1 end) as active_days_7d,
  count(*) as active_days_30d
from windows
join daily
  on daily.dt = windows.dt
group by
  as_of,
  device_id
