-- A customer's JSON document, from the rows of the customers look-up. The HTTP route appends the features of each stream.
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
