"""Dashboards are read from Markdown: text without raw HTML, and SQL blocks with their charts."""

from pathlib import Path

from lakehouse.models.chart import Chart
from lakehouse.serving.query.dashboards import dashboard_stamps, read_dashboards

TEXT = """# Sales & *more*

What was bought. <script>alert(1)</script> [no](javascript:alert(1)) ![image](https://example.org/x.png)

```sql
-- chart: line x=dt y=n
select dt, n from gold.sales
```

| a |
|---|
| 1 |

- ```sql
  select 'text in a list'
  ```

```python
print(1)
```

```sql
-- chart: pie
select 1
```
"""


def test_blocks_are_text_and_charts_and_wrong_ones_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "sales.md"
    path.write_text(TEXT)
    dashboards, problems = read_dashboards([tmp_path])
    found = dashboards["sales"]
    assert (found.title, found.description[:16]) == ("Sales & more", "What was bought.")
    text, chart, middle, wrong = found.blocks
    assert "&lt;script&gt;" in text.html
    assert not any(tag in text.html for tag in ("<script", "<img", 'href="javascript'))
    assert (chart.sql, chart.chart) == (
        "-- chart: line x=dt y=n\nselect dt, n from gold.sales\n",
        Chart("line", "dt", ("n",), line=1),
    )
    assert all(part in middle.html for part in ("<table>", "text in a list", "print(1)"))
    message = "line 23: chart: pie is no kind of chart; there are line, area, bar, number, table"
    assert wrong.error == message
    assert problems == [f"{path}: {message}."]


def test_files_that_are_no_dashboards_are_problems(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# no")
    (tmp_path / "Big Sales.md").write_text("# no")
    (tmp_path / "latin.md").write_bytes(b"# \xe9")
    (tmp_path / "plain.md").write_text("no heading")
    dashboards, problems = read_dashboards([tmp_path, tmp_path / "none"])
    assert [each.title for each in dashboards.values()] == ["plain"]
    assert ["Big Sales" in problems[0], "latin.md: can't be read" in problems[1], "is not a folder" in problems[2]] == [
        True
    ] * 3
    assert len(dashboard_stamps([tmp_path])) == 4
