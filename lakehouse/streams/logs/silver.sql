-- Normalize the spelling of services, and add the kind of outcome that each line reports.
select
  valid.*,
  lower(trim(valid.service)) as service_normalised,
  valid.level in ('ERROR', 'FATAL') as is_error,
  case
    when valid.status_code between 100 and 199 then '1xx'
    when valid.status_code between 200 and 299 then '2xx'
    when valid.status_code between 300 and 399 then '3xx'
    when valid.status_code between 400 and 499 then '4xx'
    when valid.status_code between 500 and 599 then '5xx'
    when valid.status_code is not null then 'other'
  end as status_class
from valid
