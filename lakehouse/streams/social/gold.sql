-- Count actions and the accounts that took them, by day, platform and action.
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
