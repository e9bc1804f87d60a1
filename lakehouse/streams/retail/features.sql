-- Features of a customer at the end of a day: over that day, 7 days and 30 days.
-- Units are null where their sum exceeds a bigint.
with daily as (
  select
    dt,
    customer_id,
    count(distinct invoice_no) as invoices, -- Number of invoices, also of cancelled ones.
    count(*) as lines, -- Number of invoice lines.
    sum(cast(quantity as decimal(38, 0))) as units, -- Number of units bought, less those returned.
    sum(line_amount) as net_revenue, -- Sum of all lines, less cancellations and returns.
    count(distinct case when is_cancellation then invoice_no end) as cancellations -- Number of cancelled invoices.
  from events
  where customer_id is not null
  group by
    dt,
    customer_id
)
select
  as_of as dt,
  customer_id,
  cast(sum(case when in_1d then invoices else 0 end) as bigint) as invoices_1d,
  cast(sum(case when in_7d then invoices else 0 end) as bigint) as invoices_7d,
  cast(sum(invoices) as bigint) as invoices_30d,
  cast(sum(case when in_1d then lines else 0 end) as bigint) as lines_1d,
  cast(sum(case when in_7d then lines else 0 end) as bigint) as lines_7d,
  cast(sum(lines) as bigint) as lines_30d,
  try_cast(sum(case when in_1d then units else 0 end) as bigint) as units_1d,
  try_cast(sum(case when in_7d then units else 0 end) as bigint) as units_7d,
  try_cast(sum(units) as bigint) as units_30d,
  cast(sum(case when in_1d then net_revenue else 0 end) as decimal(38, 3)) as net_revenue_1d,
  cast(sum(case when in_7d then net_revenue else 0 end) as decimal(38, 3)) as net_revenue_7d,
  cast(sum(net_revenue) as decimal(38, 3)) as net_revenue_30d,
  cast(sum(case when in_1d then cancellations else 0 end) as bigint) as cancellations_1d,
  cast(sum(case when in_7d then cancellations else 0 end) as bigint) as cancellations_7d,
  cast(sum(cancellations) as bigint) as cancellations_30d,
  count(case when in_1d then 1 end) as active_days_1d, -- Number of days with an invoice.
  count(case when in_7d then 1 end) as active_days_7d,
  count(*) as active_days_30d
from windows
join daily
  on daily.dt = windows.dt
group by
  as_of,
  customer_id
