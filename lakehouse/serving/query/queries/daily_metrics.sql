/*
name: daily_metrics
description: Daily metrics of a stream in long form, with what has landed on open days; the newest day first.
parameters:
  stream: {type: text, description: "The stream."}
  metric: {type: text, default: null, description: "Only this metric, for example amount."}
  days: {type: integer, default: 30, minimum: 1, maximum: 3660, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
*/
select
  date_key,
  metric_name,
  dimensions,
  metric_value
from serving.live_daily_metrics
where stream = $stream
  and ($metric is null or metric_name = $metric)
  and date_key between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
order by date_key desc, metric_name, cast(dimensions as varchar)
