-- Summarize invoices by day and country. Net revenue is over all lines, so cancellations and returns lower it.
-- `cancellations` counts cancelled invoices, which `invoices` also counts.
-- Units are null where their sum exceeds a bigint.
select
  dt,
  country,
  count(distinct invoice_no) as invoices, -- Number of invoices, also of cancelled ones.
  count(*) as lines, -- Number of invoice lines.
  try_cast(sum(cast(quantity as decimal(38, 0))) as bigint) as units, -- Number of units sold, less those returned.
  cast(sum(line_amount) as decimal(38, 3)) as net_revenue, -- Sum of all lines, less cancellations and returns.
  count(distinct customer_id) as customers, -- Number of known customers.
  count(distinct case when is_cancellation then invoice_no end) as cancellations -- Number of cancelled invoices.
from silver
group by
  dt,
  country
