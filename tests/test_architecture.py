"""What the linters do not see of how the code is laid out. Who may import whom is import-linter's (pyproject.toml)."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("evovlm", "app/evovlm_app", "benchmarks/evovlm_benchmarks")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if ROOT / "tests" / "fixtures" not in path.parents)
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_every_module_says_what_it_is_and_is_short_enough_to_read(path: Path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no docstring"
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            # From `def` on: the options of a command line count, its decorators do not.
            assert node.end_lineno - node.lineno < MOST_LINES_OF_A_FUNCTION, node.name


@pytest.mark.parametrize("path", TESTS, ids=named)
def test_every_file_of_tests_is_short_enough_to_read(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_packages_root_holds_nothing_but_the_way_in():
    assert {path.name for path in (ROOT / "evovlm").glob("*.py")} <= {"__init__.py", "__main__.py", "api.py"}


def test_import_linter_knows_every_package_that_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    installed = settings["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {Path(package).name for package in installed} == set(settings["importlinter"]["root_packages"])
    assert tuple(installed) == PACKAGES
