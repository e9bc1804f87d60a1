/*
name: daily_metrics
description: The daily numbers of a stream in long form, as gold holds them; newest day first.
parameters:
  stream: {type: text, description: "The stream."}
  metric: {type: text, default: null, description: "This number alone, such as amount."}
  days: {type: integer, default: 30, minimum: 1, maximum: 3660, description: "Days that are looked at, the last one included."}
  until: {type: date, default: today, description: "The last of these days, UTC."}
*/
select
  date_key,
  metric_name,
  dimensions,
  metric_value
from gold.daily_metrics
where stream = $stream
  and ($metric is null or metric_name = $metric)
  and date_key between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
order by date_key desc, metric_name, cast(dimensions as varchar)
