-- Features of an account at the end of a day: over that day, 7 days and 30 days.
-- Amounts are added without conversion of currencies.
with daily as (
  select
    dt,
    account_id,
    count(*) as transactions, -- Number of transactions.
    count(case when status = 'declined' then 1 end) as declined, -- Number of declined transactions.
    count(case when risk_band = 'high' then 1 end) as high_risk, -- Number of transactions of high risk.
    count(case when hour < 6 then 1 end) as night_transactions, -- Number of transactions before 06:00 UTC.
    sum(amount) as amount, -- Sum of the amounts.
    max(amount) as max_amount -- Largest amount.
  from events
  where account_id is not null
  group by
    dt,
    account_id
)
select
  as_of as dt,
  account_id,
  cast(sum(case when in_1d then transactions else 0 end) as bigint) as transactions_1d,
  cast(sum(case when in_7d then transactions else 0 end) as bigint) as transactions_7d,
  cast(sum(transactions) as bigint) as transactions_30d,
  cast(sum(case when in_1d then declined else 0 end) as bigint) as declined_1d,
  cast(sum(case when in_7d then declined else 0 end) as bigint) as declined_7d,
  cast(sum(declined) as bigint) as declined_30d,
  cast(sum(case when in_1d then declined end) as double)
    / nullif(sum(case when in_1d then transactions end), 0) as declined_share_1d, -- Share of declined transactions.
  cast(sum(case when in_7d then declined end) as double)
    / nullif(sum(case when in_7d then transactions end), 0) as declined_share_7d,
  cast(sum(declined) as double)
    / nullif(sum(transactions), 0) as declined_share_30d,
  cast(sum(case when in_1d then high_risk else 0 end) as bigint) as high_risk_1d,
  cast(sum(case when in_7d then high_risk else 0 end) as bigint) as high_risk_7d,
  cast(sum(high_risk) as bigint) as high_risk_30d,
  cast(sum(case when in_1d then night_transactions else 0 end) as bigint) as night_transactions_1d,
  cast(sum(case when in_7d then night_transactions else 0 end) as bigint) as night_transactions_7d,
  cast(sum(night_transactions) as bigint) as night_transactions_30d,
  cast(sum(case when in_1d then amount else 0 end) as decimal(38, 2)) as amount_1d,
  cast(sum(case when in_7d then amount else 0 end) as decimal(38, 2)) as amount_7d,
  cast(sum(amount) as decimal(38, 2)) as amount_30d,
  max(case when in_1d then max_amount end) as max_amount_1d,
  max(case when in_7d then max_amount end) as max_amount_7d,
  max(max_amount) as max_amount_30d,
  count(case when in_1d then 1 end) as active_days_1d, -- Number of days with a transaction.
  count(case when in_7d then 1 end) as active_days_7d,
  count(*) as active_days_30d
from windows
join daily
  on daily.dt = windows.dt
group by
  as_of,
  account_id
