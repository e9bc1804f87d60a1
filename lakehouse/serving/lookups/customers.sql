-- Each customer's history over all time, from silver of retail and of orders, joined by customer id.
-- An order counts in its latest state, and not at all when it is deleted. Amounts are added up whatever their currency.
with shopping as (
  select
    customer_id::varchar as id,
    {
      'invoices': count(distinct invoice_no),
      'cancellations': count(distinct case when is_cancellation then invoice_no end),
      'lines': count(*),
      'units': try_cast(sum(quantity::decimal(38, 0)) as bigint),
      'revenue': sum(line_amount)::decimal(38, 3),
      'country': arg_max(country, invoice_date),
      'first_seen': min(invoice_date),
      'last_seen': max(invoice_date),
      'recent_lines': max(
        {
          'invoice_date': invoice_date,
          'invoice_no': invoice_no,
          'stock_code': stock_code,
          'description': description,
          'quantity': quantity,
          'unit_price': unit_price,
          'line_amount': line_amount,
        },
        10
      )
    } as retail
  from retail
  where customer_id is not null
  group by customer_id
),
latest as (
  select *
  from orders
  qualify row_number() over (partition by order_id order by version desc, _arrived_at desc) = 1
),
ordering as (
  select
    customer_id as id,
    {
      'orders': count(*),
      'paid': count(case when status = 'paid' then 1 end),
      'delivered': count(case when status = 'delivered' then 1 end),
      'cancelled': count(case when status = 'cancelled' then 1 end),
      'amount': coalesce(sum(case when status is distinct from 'cancelled' then amount end), 0)::decimal(38, 2),
      'first_seen': min(event_time),
      'last_seen': max(event_time),
      'recent_orders': max(
        {
          'event_time': event_time,
          'order_id': order_id,
          'status': status,
          'amount': amount,
          'currency': currency,
          'channel': channel,
        },
        10
      )
    } as orders
  from latest
  where op <> 'delete'
  group by customer_id
)
select
  coalesce(shopping.id, ordering.id) as id,
  shopping.retail,
  ordering.orders
from shopping
full join ordering
  on ordering.id = shopping.id
