-- Summarize readings by day, device and metric. Values are in the metric's unit.
select
  dt,
  device_id,
  metric,
  count(*) as readings, -- Number of readings.
  min(value_normalised) as min_value, -- Smallest value, in the metric's unit.
  avg(value_normalised) as avg_value, -- Mean value, in the metric's unit.
  max(value_normalised) as max_value, -- Largest value, in the metric's unit.
  count(case when out_of_range then 1 end) as out_of_range -- Number of readings outside the normal range.
from silver
group by
  dt,
  device_id,
  metric
