-- Alert on posts with much engagement on one day: likes count once, comments twice, shares three times.
with settings as (
  select
    1000 as viral,
    10000 as critical_engagement
),
posts as (
  select
    dt,
    post_id,
    min(event_time) as first_action,
    cast(sum(engagement_weight) as bigint) as engagement
  from events
  group by
    dt,
    post_id
)
select
  posts.dt,
  'viral_posts' as alert,
  case when posts.engagement >= settings.critical_engagement then 'warning' else 'info' end as severity,
  posts.post_id as entity,
  posts.first_action as event_time,
  cast(posts.engagement as double) as value,
  cast(settings.viral as double) as threshold,
  'engagement of ' || cast(posts.engagement as varchar) || ' on ' || cast(posts.dt as varchar) as message,
  posts.post_id as event_key
from posts
cross join settings
where posts.engagement >= settings.viral
