-- Add the time within the week and the risk of each transaction.
select
  timed.*,
  case
    when timed.amount >= 5000 then 'high'
    when timed.amount >= 1000 and timed.status = 'declined' then 'high'
    when timed.amount >= 1000 and timed.hour < 6 and timed.type in ('transfer', 'withdrawal') then 'high'
    when timed.amount >= 500 then 'medium'
    when timed.status = 'declined' then 'medium'
    when timed.hour < 6 and timed.type in ('transfer', 'withdrawal') then 'medium'
    else 'low'
  end as risk_band
from (
  select
    valid.*,
    cast(extract(hour from valid.event_time) as bigint) as hour,
    -- 1 is Monday, as in ISO 8601, because 1900-01-01 was a Monday.
    cast(date_diff('day', date '1900-01-01', valid.dt) % 7 + 1 as bigint) as day_of_week
  from valid
) as timed
