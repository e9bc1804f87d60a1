-- Count actions and the accounts that took them, by day, platform and action.
select
  dt,
  platform,
  action,
  count(*) as events, -- Number of actions.
  count(distinct author_id) as authors -- Number of accounts.
from silver
group by
  dt,
  platform,
  action
