"""A project's own Python files join the lakehouse's definitions. One that is wrong is left out, and stops no other."""

from pathlib import Path

import dagster as dg
import pytest

from lakehouse.automation.project_assets import problems_of, with_project_assets

ASSET = "import dagster as dg\n\n\n@dg.asset(key=['gold', '{name}'])\ndef {name}() -> None: ...\n"
BASE = dg.Definitions(assets=[dg.AssetSpec(["gold", "taken"])])


def _keys(definitions: dg.Definitions) -> set[str]:
    return {key.path[-1] for key in definitions.resolve_asset_graph().get_all_asset_keys()}


def test_files_import_each_other_and_may_hold_definitions(tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text("NAME = 'shared'\n")
    (tmp_path / "own.py").write_text(
        "import dagster as dg\nfrom .names import NAME\ndefs = dg.Definitions(assets=[dg.AssetSpec(['gold', NAME])])\n"
    )
    (tmp_path / "plain.py").write_text(ASSET.format(name="plain"))
    definitions = with_project_assets(BASE, [tmp_path])
    assert _keys(definitions) == {"taken", "shared", "plain"}
    assert problems_of(definitions) == []


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        pytest.param("x = 1\ndef f(:\n", 2, "SyntaxError: ", id="syntax"),
        pytest.param("import dagster\n\nimport there_is_no_such_module\n", 3, "ModuleNotFoundError: ", id="import"),
        pytest.param("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError: ", id="error"),
        pytest.param("raise SystemExit(3)\n", 1, "SystemExit: 3", id="exit"),
        pytest.param(ASSET.format(name="taken"), 1, "", id="an asset that there is"),
    ],
)
def test_broken_file_is_named_with_its_line_and_stops_no_other(
    tmp_path: Path, content: str, line: int, message: str
) -> None:
    (tmp_path / "a_broken.py").write_text(content)
    (tmp_path / "right.py").write_text(ASSET.format(name="right"))
    definitions = with_project_assets(BASE, [tmp_path])
    assert _keys(definitions) == {"taken", "right"}
    (problem,) = problems_of(definitions)
    assert problem.startswith(f"{tmp_path}/a_broken.py: line {line}: {message}")


def test_file_saved_twice_in_a_second_is_loaded_as_it_is(tmp_path: Path) -> None:
    for name in ("one", "two", "six"):
        (tmp_path / "own.py").write_text(ASSET.format(name=name))
        assert _keys(with_project_assets(BASE, [tmp_path])) == {"taken", name}
