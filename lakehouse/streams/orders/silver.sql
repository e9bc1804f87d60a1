-- Add the stage of an order, and which of a day's changes brought it into its status. Other days are not read.
select
  valid.*,
  valid.op = 'delete' as is_delete,
  cast(
    case valid.status
      when 'created' then 1
      when 'paid' then 2
      when 'shipped' then 3
      when 'delivered' then 4
      when 'cancelled' then 5
    end as bigint
  ) as status_rank,
  valid.op <> 'delete'
    and valid.status is not null
    and valid.status is distinct from lag(valid.status) over (
      partition by valid.dt, valid.order_id
      order by valid.version
    ) as enters_status
from valid
