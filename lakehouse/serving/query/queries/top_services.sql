/*
name: top_services
description: Services by the share of their log lines that are errors, the worst first.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 90, description: "Days that are looked at, the last one included."}
  until: {type: date, default: today, description: "The last of these days, UTC."}
  limit: {type: integer, default: 10, minimum: 1, maximum: 1000, description: "Services given."}
*/
select
  service_normalised as service,
  count(*) as events,
  count(case when is_error then 1 end) as errors,
  cast(count(case when is_error then 1 end) as double) / count(*) as error_rate,
  max(case when is_error then event_time end) as last_error
from serving.unified_logs
where dt between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
group by service_normalised
order by error_rate desc, errors desc, service_normalised
limit $limit
