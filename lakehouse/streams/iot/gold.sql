-- Summarize readings by day, device and metric. Values are in the metric's unit.
select
  dt,
  device_id,
  metric,
  count(*) as readings,
  min(value_normalised) as min_value,
  avg(value_normalised) as avg_value,
  max(value_normalised) as max_value,
  count(case when out_of_range then 1 end) as out_of_range
from silver
group by
  dt,
  device_id,
  metric
