-- Transactions of a currency and type on a day, whatever their status; `declined` says how many of them were declined.
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
