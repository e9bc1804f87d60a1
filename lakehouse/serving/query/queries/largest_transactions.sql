/*
name: largest_transactions
description: The transactions of the largest amounts, whatever their currency unless one is named.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 366, description: "Days that are looked at, the last one included."}
  until: {type: date, default: today, description: "The last of these days, UTC."}
  currency: {type: text, default: null, description: "In this currency alone."}
  limit: {type: integer, default: 20, minimum: 1, maximum: 10000, description: "Transactions given."}
*/
select
  event_id,
  event_time,
  account_id,
  counterparty,
  amount,
  currency,
  type,
  status,
  risk_band
from serving.unified_financial
where dt between cast($until as date) - cast($days as integer) + 1 and cast($until as date)
  and ($currency is null or currency = $currency)
order by amount desc, event_time desc, event_id
limit $limit
