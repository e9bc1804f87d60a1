-- Add the engagement weight of each action, and the counts of hashtags and characters.
select
  valid.*,
  cast(
    case valid.action
      when 'like' then 1
      when 'comment' then 2
      when 'share' then 3
      else 0
    end as bigint
  ) as engagement_weight,
  cast(case when valid.hashtags is null then 0 else array_length(valid.hashtags) end as bigint) as hashtag_count,
  cast(coalesce(length(valid.text), 0) as bigint) as text_length
from valid
