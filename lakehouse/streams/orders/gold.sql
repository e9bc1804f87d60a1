-- Count orders that were created, paid and cancelled, by day and channel. A later change on that day with the same status
-- does not count again. The amount is that of the order's creation, without conversion of currencies.
select
  dt,
  channel,
  count(case when op = 'insert' and status = 'created' then 1 end) as created, -- Number of orders created.
  count(case when enters_status and status = 'paid' then 1 end) as paid, -- Number of orders paid.
  count(case when enters_status and status = 'cancelled' then 1 end) as cancelled, -- Number of orders cancelled.
  cast(
    coalesce(sum(case when op = 'insert' and status = 'created' then amount end), 0) as decimal(38, 2)
  ) as amount_created -- Sum of the amounts of created orders.
from silver
group by
  dt,
  channel
