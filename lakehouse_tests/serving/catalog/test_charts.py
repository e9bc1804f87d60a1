"""The chart line of a SQL text is read strictly, and wherever a header may have it."""

import pytest

from lakehouse.models.chart import Chart, ChartError, read_chart


@pytest.mark.parametrize(
    ("text", "chart"),
    [
        ("select 1", None),
        ("select 1 -- chart: table", None),
        ("select '\n-- chart: table\n'", None),
        ("/* -- chart: pie */ select 1", None),
        ("-- chart: table\nselect 1", Chart("table", line=1)),
        ("/*\na: b\n*/\n\n-- why\n--chart:line x=dt y=a,b\nselect 1", Chart("line", "dt", ("a", "b"), line=6)),
        ("-- Chart: bar  x=dt y=n  by=c \r\nselect 1", Chart("bar", "dt", ("n",), "c", line=1)),
        ('-- chart: area x="a ""b"", c" y="größe",n\nselect 1', Chart("area", 'a "b", c', ("größe", "n"), line=1)),
        ("-- chart: number y=n", Chart("number", y=("n",), line=1)),
    ],
)
def test_chart_is_read_from_comments_before_the_sql(text: str, chart: Chart | None) -> None:
    assert read_chart(text) == chart


@pytest.mark.parametrize(
    ("chart", "message"),
    [
        ("pie x=dt", "chart: pie is no kind of chart; there are line, area, bar, number, table"),
        ("", "chart: nothing is no kind of chart"),
        ("line x=dt", "chart: a line needs y=column"),
        ("bar", "chart: a bar needs x=column and y=column"),
        ("table x=dt", "chart: x is no part of a table; it has no parts"),
        ("line x=dt y=n colour=c", "chart: colour is no part of a line; it has x, y, by"),
        ("line x=dt x=n y=n", "chart: x is given twice"),
        ("line x=dt y=a,b by=c", "chart: by needs one column as y"),
        ("number y=a,b", "chart: a number has one column as y"),
        ("line x=dt y=n by country", "chart: 'by country' is not written as name=column"),
        ("line x=dt y=n\n-- chart: table", "chart: there is one already"),
    ],
)
def test_wrong_chart_is_an_error_with_its_line(chart: str, message: str) -> None:
    with pytest.raises(ChartError) as raised:
        read_chart(f"/*\n*/\n-- chart: {chart}\nselect 1")
    assert str(raised.value).startswith(message)
    assert raised.value.line == (4 if "already" in message else 3)


def test_unknown_column_is_an_error_that_lists_the_others() -> None:
    chart = Chart("line", "dt", ("n",), "c", line=7)
    chart.check_columns(["dt", "n", "c"])
    with pytest.raises(ChartError, match="there is no column c; there are dt, n") as raised:
        chart.check_columns(["dt", "n"])
    assert raised.value.line == 7
