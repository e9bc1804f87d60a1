-- Events of a kind and country on a day, and how many sessions and signed-in users they came from.
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
