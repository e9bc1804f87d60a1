-- Actions of a kind on a platform and day, and how many accounts took them.
select
  dt,
  platform,
  action,
  count(*) as events,
  count(distinct author_id) as authors
from silver
group by
  dt,
  platform,
  action
