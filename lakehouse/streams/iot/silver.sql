-- Convert each reading to the unit of its metric, and flag readings outside the plausible range.
-- A reading without a unit, or with an unlisted unit, counts as being in the metric's unit.
select
  converted.*,
  cast(ranges.plausible_min as double) as plausible_min,
  cast(ranges.plausible_max as double) as plausible_max,
  coalesce(
    converted.value_normalised < ranges.plausible_min or converted.value_normalised > ranges.plausible_max,
    false
  ) as out_of_range
from (
  select
    valid.*,
    case valid.metric
      when 'temperature' then 'C'
      when 'humidity' then '%'
      when 'pressure' then 'hPa'
      when 'vibration' then 'mm/s'
      when 'battery' then '%'
      else trim(valid.unit)
    end as unit_normalised,
    case
      when units.factor is null then valid.value
      else (valid.value - cast(units.zero as double)) * cast(units.factor as double)
    end as value_normalised
  from valid
  left join (
    values
      ('temperature', 'f', 32.0, 0.5555555555555556),
      ('temperature', 'fahrenheit', 32.0, 0.5555555555555556),
      ('temperature', 'k', 273.15, 1.0),
      ('temperature', 'kelvin', 273.15, 1.0),
      ('pressure', 'pa', 0.0, 0.01),
      ('pressure', 'kpa', 0.0, 10.0),
      ('pressure', 'bar', 0.0, 1000.0),
      ('pressure', 'psi', 0.0, 68.94757293168),
      ('vibration', 'm/s', 0.0, 1000.0),
      ('vibration', 'in/s', 0.0, 25.4)
  ) as units (metric, spelling, zero, factor)
    on units.metric = valid.metric
    and units.spelling = replace(lower(trim(valid.unit)), '°', '')
) as converted
left join (
  values
    ('temperature', -40.0, 85.0),
    ('humidity', 0.0, 100.0),
    ('pressure', 850.0, 1100.0),
    ('vibration', 0.0, 50.0),
    ('battery', 0.0, 100.0)
) as ranges (metric, plausible_min, plausible_max)
  on ranges.metric = converted.metric
