-- Sum transactions of any status by day, currency and type. `declined` counts the declined ones among them.
select
  dt,
  currency,
  type,
  count(*) as transactions,
  count(case when status = 'declined' then 1 end) as declined,
  cast(sum(amount) as decimal(38, 2)) as amount,
  cast(max(amount) as decimal(38, 2)) as max_amount
from silver
group by
  dt,
  currency,
  type
