-- description: What retail and orders together know of each customer over all time.
-- key: customer_id

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
  from silver.retail
  where customer_id is not null
  group by customer_id
),
latest as (
  select *
  from silver.orders
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
  coalesce(shopping.id, ordering.id) as customer_id,
  shopping.retail,
  ordering.orders
from shopping
full join ordering
  on ordering.id = shopping.id;

-- The answer. `/v1/customers/{id}` appends the features of each stream.
select
  id,
  coalesce(retail.invoices, 0) as invoices,
  coalesce(orders.orders, 0) as orders,
  coalesce(retail.revenue::varchar, '0') as revenue,
  least(retail.first_seen, orders.first_seen) as first_seen,
  greatest(retail.last_seen, orders.last_seen) as last_seen,
  coalesce(retail.recent_lines, []) as recent_lines,
  coalesce(orders.recent_orders, []) as recent_orders,
  retail,
  orders as order_history
from lookup
