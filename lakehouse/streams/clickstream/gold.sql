-- Count events, sessions and signed-in users by day, event type and country.
select
  dt,
  event_type,
  country,
  count(*) as events,
  count(distinct session_id) as sessions,
  count(distinct user_id) as users
from silver
group by
  dt,
  event_type,
  country
