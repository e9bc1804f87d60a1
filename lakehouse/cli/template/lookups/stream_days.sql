-- description: The days of which a stream has numbers.
-- key: stream

select
  stream,
  min(date_key) as first_day,
  max(date_key) as last_day,
  count(distinct date_key) as days
from gold.daily_metrics
group by stream
