/*
name: events_by_day
description: Events and rejected rows of each stream by day; the newest day first.
parameters:
  days: {type: integer, default: 30, minimum: 1, maximum: 3660, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
*/
select
  dt,
  stream,
  events,
  quarantined
from serving.stream_health
where dt between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
order by dt desc, stream
