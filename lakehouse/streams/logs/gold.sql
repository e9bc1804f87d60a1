-- Lines of a service and level on a day; the latency is over the lines that have one.
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
