-- Features of an account at the end of a day: over that day, 7 days and 30 days.
with daily as (
  select
    dt,
    author_id,
    count(*) as actions, -- Number of actions.
    count(case when action = 'post' then 1 end) as posts, -- Number of posts.
    count(case when action = 'like' then 1 end) as likes, -- Number of likes.
    count(case when action = 'share' then 1 end) as shares, -- Number of shares.
    count(case when action = 'comment' then 1 end) as comments, -- Number of comments.
    sum(engagement_weight) as engagement, -- Sum of the weights of the actions.
    sum(hashtag_count) as hashtags, -- Number of hashtags.
    max(followers) as max_followers -- Largest number of followers.
  from events
  where author_id is not null
  group by
    dt,
    author_id
)
select
  as_of as dt,
  author_id,
  cast(sum(case when in_1d then actions else 0 end) as bigint) as actions_1d,
  cast(sum(case when in_7d then actions else 0 end) as bigint) as actions_7d,
  cast(sum(actions) as bigint) as actions_30d,
  cast(sum(case when in_1d then posts else 0 end) as bigint) as posts_1d,
  cast(sum(case when in_7d then posts else 0 end) as bigint) as posts_7d,
  cast(sum(posts) as bigint) as posts_30d,
  cast(sum(case when in_1d then likes else 0 end) as bigint) as likes_1d,
  cast(sum(case when in_7d then likes else 0 end) as bigint) as likes_7d,
  cast(sum(likes) as bigint) as likes_30d,
  cast(sum(case when in_1d then shares else 0 end) as bigint) as shares_1d,
  cast(sum(case when in_7d then shares else 0 end) as bigint) as shares_7d,
  cast(sum(shares) as bigint) as shares_30d,
  cast(sum(case when in_1d then comments else 0 end) as bigint) as comments_1d,
  cast(sum(case when in_7d then comments else 0 end) as bigint) as comments_7d,
  cast(sum(comments) as bigint) as comments_30d,
  cast(sum(case when in_1d then engagement else 0 end) as bigint) as engagement_1d,
  cast(sum(case when in_7d then engagement else 0 end) as bigint) as engagement_7d,
  cast(sum(engagement) as bigint) as engagement_30d,
  cast(sum(case when in_1d then hashtags else 0 end) as bigint) as hashtags_1d,
  cast(sum(case when in_7d then hashtags else 0 end) as bigint) as hashtags_7d,
  cast(sum(hashtags) as bigint) as hashtags_30d,
  max(case when in_1d then max_followers end) as max_followers_1d,
  max(case when in_7d then max_followers end) as max_followers_7d,
  max(max_followers) as max_followers_30d,
  count(case when in_1d then 1 end) as active_days_1d, -- Number of days with an action.
  count(case when in_7d then 1 end) as active_days_7d,
  count(*) as active_days_30d
from windows
join daily
  on daily.dt = windows.dt
group by
  as_of,
  author_id
