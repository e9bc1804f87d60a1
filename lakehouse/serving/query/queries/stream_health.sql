/*
name: stream_health
description: Freshness and quality of each stream over the last days, by event time, or why it can't be read.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 3660, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
*/
select
  stream,
  cast(sum(events) as bigint) as events,
  cast(sum(quarantined) as bigint) as quarantined,
  cast(sum(events) as double) / nullif(sum(events + quarantined), 0) as quality_score,
  max(newest_event) as newest_event,
  max(newest_arrival) as newest_arrival,
  date_diff('second', max(newest_arrival), cast(now() at time zone 'UTC' as timestamp)) as seconds_since_arrival,
  max(unreadable) as unreadable
from serving.stream_health
where dt between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
  or unreadable is not null
group by stream
order by stream
