-- Add the exact amount of each line, and whether it belongs to a cancellation.
select
  valid.*,
  valid.invoice_no like 'C%' as is_cancellation,
  cast(cast(valid.quantity as decimal(19, 0)) * valid.unit_price as decimal(38, 3)) as line_amount
from valid
