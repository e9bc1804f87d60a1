-- Sum transactions of any status by day, currency and type. `declined` counts the declined ones among them.
select
  dt,
  currency,
  type,
  count(*) as transactions, -- Number of transactions, of any status.
  count(case when status = 'declined' then 1 end) as declined, -- Number of declined transactions.
  cast(sum(amount) as decimal(38, 2)) as amount, -- Sum of the amounts.
  cast(max(amount) as decimal(38, 2)) as max_amount -- Largest amount.
from silver
group by
  dt,
  currency,
  type
