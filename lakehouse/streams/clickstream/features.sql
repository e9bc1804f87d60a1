-- Features of a signed-in user at the end of a day: over that day, 7 days and 30 days.
-- A session that passes midnight counts on both days.
with daily as (
  select
    dt,
    user_id,
    count(*) as events, -- Number of events.
    count(distinct session_id) as sessions, -- Number of sessions.
    count(case when event_type = 'page_view' then 1 end) as page_views, -- Number of page views.
    count(case when event_type = 'search' then 1 end) as searches, -- Number of searches.
    count(case when event_type = 'add_to_cart' then 1 end) as add_to_carts, -- Number of products put into carts.
    count(case when event_type = 'purchase' then 1 end) as purchases -- Number of purchases.
  from events
  where user_id is not null
  group by
    dt,
    user_id
)
select
  as_of as dt,
  user_id,
  cast(sum(case when in_1d then events else 0 end) as bigint) as events_1d,
  cast(sum(case when in_7d then events else 0 end) as bigint) as events_7d,
  cast(sum(events) as bigint) as events_30d,
  cast(sum(case when in_1d then sessions else 0 end) as bigint) as sessions_1d,
  cast(sum(case when in_7d then sessions else 0 end) as bigint) as sessions_7d,
  cast(sum(sessions) as bigint) as sessions_30d,
  cast(sum(case when in_1d then page_views else 0 end) as bigint) as page_views_1d,
  cast(sum(case when in_7d then page_views else 0 end) as bigint) as page_views_7d,
  cast(sum(page_views) as bigint) as page_views_30d,
  cast(sum(case when in_1d then searches else 0 end) as bigint) as searches_1d,
  cast(sum(case when in_7d then searches else 0 end) as bigint) as searches_7d,
  cast(sum(searches) as bigint) as searches_30d,
  cast(sum(case when in_1d then add_to_carts else 0 end) as bigint) as add_to_carts_1d,
  cast(sum(case when in_7d then add_to_carts else 0 end) as bigint) as add_to_carts_7d,
  cast(sum(add_to_carts) as bigint) as add_to_carts_30d,
  cast(sum(case when in_1d then purchases else 0 end) as bigint) as purchases_1d,
  cast(sum(case when in_7d then purchases else 0 end) as bigint) as purchases_7d,
  cast(sum(purchases) as bigint) as purchases_30d,
  cast(sum(case when in_1d then purchases end) as double)
    / nullif(sum(case when in_1d then sessions end), 0) as purchases_per_session_1d, -- Purchases per session.
  cast(sum(case when in_7d then purchases end) as double)
    / nullif(sum(case when in_7d then sessions end), 0) as purchases_per_session_7d,
  cast(sum(purchases) as double)
    / nullif(sum(sessions), 0) as purchases_per_session_30d,
  count(case when in_1d then 1 end) as active_days_1d, -- Number of days with an event.
  count(case when in_7d then 1 end) as active_days_7d,
  count(*) as active_days_30d
from windows
join daily
  on daily.dt = windows.dt
group by
  as_of,
  user_id
