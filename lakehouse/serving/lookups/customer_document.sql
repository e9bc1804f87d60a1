-- The answer to who asks for a customer, of the rows of the look-up; the features of each stream come after it.
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
from found
