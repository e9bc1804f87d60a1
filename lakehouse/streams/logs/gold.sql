-- Count lines by day, service and level. The latency is over the lines that have one.
select
  dt,
  service_normalised as service,
  level,
  count(*) as events, -- Number of lines.
  quantile_cont(latency_ms, 0.95) as p95_latency_ms -- Latency that 95 % of the lines do not exceed, in milliseconds.
from silver
group by
  dt,
  service_normalised,
  level
