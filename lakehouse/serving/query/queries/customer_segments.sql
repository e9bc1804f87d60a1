/*
name: customer_segments
description: Retail customers in segments of lifetime value, with each segment's averages.
parameters:
  medium: {type: number, default: 500, minimum: 0, description: "Lifetime value from which a customer is medium."}
  high: {type: number, default: 1000, minimum: 0, description: "Lifetime value from which a customer is high."}
*/
with customers as (
  select
    customer_id,
    sum(line_amount) as lifetime_value,
    count(distinct invoice_no) as invoices,
    count(distinct dt) as active_days
  from serving.unified_retail
  where customer_id is not null
  group by customer_id
)
select
  case
    when lifetime_value >= $high then 'high'
    when lifetime_value >= $medium then 'medium'
    else 'low'
  end as segment,
  count(*) as customers,
  cast(sum(lifetime_value) as decimal(38, 3)) as total_value,
  avg(lifetime_value) as average_value,
  avg(invoices) as average_invoices,
  avg(active_days) as average_active_days
from customers
group by segment
order by min(lifetime_value) desc
