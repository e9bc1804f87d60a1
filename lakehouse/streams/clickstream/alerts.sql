-- Alert on sessions that are too long and too fast for a person.
with settings as (
  select
    60 as many_events,
    60.0 as events_per_minute
),
sessions as (
  select
    dt,
    session_id,
    min(event_time) as session_start,
    count(*) as actions,
    -- Count a session without length as one microsecond, because its rate would divide by zero.
    greatest(cast(date_diff('microsecond', min(event_time), max(event_time)) as double), 1) / 60000000 as minutes
  from events
  group by
    dt,
    session_id
)
select
  sessions.dt,
  'bot_like_sessions' as alert,
  'info' as severity,
  sessions.session_id as entity,
  sessions.session_start as event_time,
  sessions.actions / sessions.minutes as value,
  cast(settings.events_per_minute as double) as threshold,
  cast(sessions.actions as varchar) || ' events at '
    || cast(cast(sessions.actions / sessions.minutes as bigint) as varchar) || ' a minute' as message,
  cast(sessions.session_start as varchar) as event_key
from sessions
cross join settings
where sessions.actions >= settings.many_events
  and sessions.actions / sessions.minutes >= settings.events_per_minute
