-- Orders of a channel that were created, paid and cancelled on a day. A later change on that day that leaves the status
-- as it was is not counted again; the amount is the one the order was created with, whatever its currency.
select
  dt,
  channel,
  count(case when op = 'insert' and status = 'created' then 1 end) as created,
  count(case when enters_status and status = 'paid' then 1 end) as paid,
  count(case when enters_status and status = 'cancelled' then 1 end) as cancelled,
  cast(
    coalesce(sum(case when op = 'insert' and status = 'created' then amount end), 0) as decimal(38, 2)
  ) as amount_created
from silver
group by
  dt,
  channel
