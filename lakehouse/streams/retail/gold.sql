-- Summarize invoices by day and country. Net revenue is over all lines, so cancellations and returns lower it.
-- `cancellations` counts cancelled invoices, which `invoices` also counts.
-- Units are null where their sum exceeds a bigint.
select
  dt,
  country,
  count(distinct invoice_no) as invoices,
  count(*) as lines,
  try_cast(sum(cast(quantity as decimal(38, 0))) as bigint) as units,
  cast(sum(line_amount) as decimal(38, 3)) as net_revenue,
  count(distinct customer_id) as customers,
  count(distinct case when is_cancellation then invoice_no end) as cancellations
from silver
group by
  dt,
  country
