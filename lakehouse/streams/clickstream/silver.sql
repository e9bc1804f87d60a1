-- Add each event's position in its session, and the source of the visit.
-- Positions start again at midnight.
select
  placed.*,
  placed.session_position = 1 as is_entry,
  case
    when placed.referrer_host is null then 'direct'
    when placed.referrer_host = placed.page_host then 'internal'
    when regexp_matches(placed.referrer_host, '(^|[.])(google|bing|duckduckgo|yahoo|baidu|yandex|ecosia)[.][a-z.]+$')
      then 'search'
    when regexp_matches(
      placed.referrer_host,
      '(^|[.])(facebook|instagram|twitter|linkedin|tiktok|reddit|pinterest|youtube)[.][a-z.]+$'
    )
      then 'social'
    when regexp_matches(placed.referrer_host, '^(www[.])?(t[.]co|x[.]com)$') then 'social'
    else 'referral'
  end as traffic_source
from (
  select
    valid.*,
    nullif(regexp_extract(lower(valid.page_url), '^[a-z]+://([^/:?#]+)', 1), '') as page_host,
    nullif(regexp_extract(lower(valid.referrer), '^[a-z]+://([^/:?#]+)', 1), '') as referrer_host,
    row_number() over in_session as session_position,
    cast(date_diff('microsecond', lag(valid.event_time) over in_session, valid.event_time) as double) / 1000000
      as seconds_since_previous
  from valid
  window in_session as (
    partition by valid.dt, valid.session_id
    order by valid.event_time, valid.event_id
  )
) as placed
