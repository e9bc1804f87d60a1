-- Alert on cancelled invoices worth at least the large amount, in pounds sterling.
with settings as (
  select
    1000.000 as large_amount,
    10000.000 as critical_amount
),
cancelled as (
  select
    dt,
    invoice_no,
    max(customer_id) as customer_id,
    min(invoice_date) as invoice_date,
    -sum(line_amount) as amount
  from events
  where is_cancellation
  group by
    dt,
    invoice_no
)
select
  cancelled.dt,
  'large_cancellations' as alert,
  case when cancelled.amount >= settings.critical_amount then 'critical' else 'warning' end as severity,
  cast(cancelled.customer_id as varchar) as entity,
  cancelled.invoice_date as event_time,
  cast(cancelled.amount as double) as value,
  cast(settings.large_amount as double) as threshold,
  'invoice ' || cancelled.invoice_no || ' takes back ' || cast(cancelled.amount as varchar) as message,
  cancelled.invoice_no as event_key
from cancelled
cross join settings
where cancelled.amount >= settings.large_amount
