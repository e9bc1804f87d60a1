-- Features of a service at the end of a day: over that day, 7 days and 30 days.
-- Latencies are in milliseconds, over the lines that have a latency.
with daily as (
  select
    dt,
    service_normalised as service,
    count(*) as events, -- Number of lines.
    count(case when is_error then 1 end) as errors, -- Number of errors.
    count(case when status_class = '5xx' then 1 end) as server_errors, -- Number of answers with a status of 500 and above.
    sum(latency_ms) as latency_sum,
    count(latency_ms) as latencies,
    max(latency_ms) as max_latency_ms -- Largest latency, in milliseconds.
  from events
  where service_normalised is not null
  group by
    dt,
    service_normalised
)
select
  as_of as dt,
  service,
  cast(sum(case when in_1d then events else 0 end) as bigint) as events_1d,
  cast(sum(case when in_7d then events else 0 end) as bigint) as events_7d,
  cast(sum(events) as bigint) as events_30d,
  cast(sum(case when in_1d then errors else 0 end) as bigint) as errors_1d,
  cast(sum(case when in_7d then errors else 0 end) as bigint) as errors_7d,
  cast(sum(errors) as bigint) as errors_30d,
  cast(sum(case when in_1d then errors end) as double)
    / nullif(sum(case when in_1d then events end), 0) as error_share_1d, -- Share of errors.
  cast(sum(case when in_7d then errors end) as double)
    / nullif(sum(case when in_7d then events end), 0) as error_share_7d,
  cast(sum(errors) as double)
    / nullif(sum(events), 0) as error_share_30d,
  cast(sum(case when in_1d then server_errors else 0 end) as bigint) as server_errors_1d,
  cast(sum(case when in_7d then server_errors else 0 end) as bigint) as server_errors_7d,
  cast(sum(server_errors) as bigint) as server_errors_30d,
  cast(sum(case when in_1d then latency_sum end) as double)
    / nullif(sum(case when in_1d then latencies end), 0) as avg_latency_ms_1d, -- Mean latency, in milliseconds.
  cast(sum(case when in_7d then latency_sum end) as double)
    / nullif(sum(case when in_7d then latencies end), 0) as avg_latency_ms_7d,
  cast(sum(latency_sum) as double)
    / nullif(sum(latencies), 0) as avg_latency_ms_30d,
  max(case when in_1d then max_latency_ms end) as max_latency_ms_1d,
  max(case when in_7d then max_latency_ms end) as max_latency_ms_7d,
  max(max_latency_ms) as max_latency_ms_30d
from windows
join daily
  on daily.dt = windows.dt
group by
  as_of,
  service
