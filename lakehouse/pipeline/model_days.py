"""Say which days a model reads for a day, and select that day of what its SELECT gives."""

from datetime import date, timedelta

from lakehouse.models.model import Model


def days_read(model: Model, day: date) -> list[date]:
    """List the days of its sources that a model reads for a day, newest first."""
    return [day - timedelta(days=back) for back in range(model.header.look_back + 1)]


def day_sql(model: Model, day: date, select: str | None = None) -> str:
    """Generate the SELECT of a day's rows over inputs that hold the days that it reads. Other rows fail it.

    `select` stands for the model's own SELECT.
    """
    read = days_read(model, day)
    failure = (
        f"error('{model.name} has a row of ' || coalesce(dt::varchar, 'no day')"
        f" || ', which is not among the days that are read for {day}; derive dt from the dt of its sources')"
    )
    is_read = f"dt between date '{read[-1]}' and date '{day}'"
    return (
        f"select * from (\n{select or model.select}\n)"
        f" where case when {is_read} then dt = date '{day}' else {failure}::boolean end"
    )
