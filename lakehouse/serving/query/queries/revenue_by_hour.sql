/*
name: revenue_by_hour
description: Net revenue, invoices and lines of retail by hour. Cancellations and returns lower revenue.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 366, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
  country: {type: text, default: null, description: "Only this country."}
*/
select
  date_trunc('hour', invoice_date) as hour,
  cast(sum(line_amount) as decimal(38, 3)) as net_revenue,
  count(distinct invoice_no) as invoices,
  count(*) as lines
from serving.unified_retail
where dt between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
  and ($country is null or country = $country)
group by hour
order by hour
