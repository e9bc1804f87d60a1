/*
name: funnel
description: Clickstream sessions that reach each type of event, as a share of the sessions that viewed a page.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 366, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
  country: {type: text, default: null, description: "Only this country."}
*/
with events as (
  select
    event_type,
    session_id,
    user_id
  from serving.unified_clickstream
  where dt between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
    and ($country is null or country = $country)
),
steps as (
  select
    steps.position,
    steps.event_type,
    count(events.event_type) as events,
    count(distinct events.session_id) as sessions,
    count(distinct events.user_id) as users
  from (
    values
      (1, 'page_view'),
      (2, 'search'),
      (3, 'click'),
      (4, 'add_to_cart'),
      (5, 'purchase')
  ) as steps (position, event_type)
  left join events
    on events.event_type = steps.event_type
  group by
    steps.position,
    steps.event_type
)
select
  position,
  event_type,
  events,
  sessions,
  users,
  cast(sessions as double) / nullif(first_value(sessions) over (order by position), 0) as share_of_first
from steps
order by position
