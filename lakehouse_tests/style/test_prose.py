"""Docstrings, comments and documents keep to plain English; see CONTRIBUTING.md, "Words"."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("lakehouse/**/*.py"), *ROOT.glob("lakehouse_tests/**/*.py"), *ROOT.glob("examples/*.py")])
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

BANNED = {
    r"\b(nobody|somebody|whoever)\b": "name the component",
    r"\blet(s|ting)? go of\b": "write drop, release or expire",
    r"\b(is|are) told\b": "write is reported or receives",
    r"\bmend(s|ed|ing)?\b": "write fix",
    r"\bgives? way\b": "write yields",
    r"\bheld back\b": "write blocked",
    r", for (it|they|what|others|who|no|nothing|there|we|you) ": "write because",
    r", for (the|an?|each|one|all) (\w+ ){1,3}(is|are|was|were|has|have|can|must|may|would|do|does|did)\b": "write because",
    r"\b[Ww]hat(ever)? is (said|told|taken|wanted|known)\b": "name the thing",
}
"""Idioms that a reader has to translate, each with what to write."""


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _faults(lines: Iterable[tuple[int, str]]) -> list[str]:
    return [
        f"line {number}: {match[0]!r}: {advice}"
        for number, text in lines
        for pattern, advice in BANNED.items()
        for match in re.finditer(pattern, text)
    ]


def test_modules_are_in_plain_english() -> None:
    faults = {}
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        faults[_name(path)] = _faults(_comments(source)) + _faults(_docstrings(ast.parse(source)))
    assert {name: lines for name, lines in faults.items() if lines} == {}


def test_documents_are_in_plain_english() -> None:
    faults = {}
    for path in DOCUMENTS:
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        faults[_name(path)] = _faults((number, re.sub(r"`[^`]*`", "", line)) for number, line in lines)
    assert {name: lines for name, lines in faults.items() if lines} == {}


def test_docstrings_start_with_a_verb_or_the_thing() -> None:
    opening = re.compile(r"(What|Those|That|Who|Whoever|So many)\b")
    faults = [
        (_name(path), number, text.splitlines()[0])
        for path in MODULES
        for number, text in _docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if opening.match(text)
    ]
    assert faults == []


def test_docstrings_of_functions_start_with_a_verb() -> None:
    opening = re.compile(r"(An?|The|Whether|How|Where|When|One|Seconds)\b")
    faults = [
        (_name(path), function.lineno, text.splitlines()[0])
        for path in MODULES
        for function in _plain_functions(ast.parse(path.read_text(encoding="utf-8")))
        if opening.match(text := ast.get_docstring(function) or "")
    ]
    assert faults == []


def _plain_functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield all functions but tests and decorated ones: properties and fixtures name the thing that they give."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    yield from (node for node in functions if not node.decorator_list and not node.name.startswith("test_"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
