-- Count lines by day, service and level. The latency is over the lines that have one.
select
  dt,
  service_normalised as service,
  level,
  count(*) as events,
  quantile_cont(latency_ms, 0.95) as p95_latency_ms
from silver
group by
  dt,
  service_normalised,
  level
