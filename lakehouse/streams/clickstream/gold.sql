-- Count events, sessions and signed-in users by day, event type and country.
select
  dt,
  event_type,
  country,
  count(*) as events, -- Number of events.
  count(distinct session_id) as sessions, -- Number of sessions.
  count(distinct user_id) as users -- Number of signed-in users.
from silver
group by
  dt,
  event_type,
  country
