/*
name: top_services
description: Services by the share of errors in their log lines, the worst first.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 90, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
  limit: {type: integer, default: 10, minimum: 1, maximum: 1000, description: "Maximum number of services."}
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
