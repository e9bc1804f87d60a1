/*
name: largest_transactions
description: The transactions with the largest amounts, in all currencies or in one.
parameters:
  days: {type: integer, default: 7, minimum: 1, maximum: 366, description: "Number of days, including the last one."}
  until: {type: date, default: today, description: "The last day, UTC."}
  currency: {type: text, default: null, description: "Only this currency."}
  limit: {type: integer, default: 20, minimum: 1, maximum: 10000, description: "Maximum number of transactions."}
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
