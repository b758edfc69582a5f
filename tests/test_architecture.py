"""The floor plan: imports point downwards only, and nothing imports the package root."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Lower floors may not import higher ones; modules of one floor may, but never in a circle.
FLOORS = {
    13: ["cli", "__main__"],
    12: ["api"],
    11: ["report"],
    10: ["evolution"],
    9: ["study"],
    8: ["evaluators"],
    7: ["engines"],
    6: ["tasks"],
    5: ["zoo"],
    4: ["merging"],
    3: ["search"],
    2: ["recipe"],
    1: ["models", "methods"],
    0: ["system"],
}
FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules}


def module_of(path: Path) -> str:
    return path.relative_to(ROOT / "evovlm").with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, int]]:
    """Dotted names of evovlm, app and benchmarks that a file imports, wherever in it, with their lines."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "evovlm":
                found += [(f"evovlm.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((node.module or "", node.lineno))
    return [(name, line) for name, line in found if name.split(".")[0] in ("evovlm", "evovlm_app", "evovlm_benchmarks")]


PACKAGE = sorted((ROOT / "evovlm").rglob("*.py"))


def test_every_module_has_a_floor():
    assert {module_of(path) for path in PACKAGE} - {"__init__"} <= set(FLOOR)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path):
    here = module_of(path)
    if path == ROOT / "evovlm" / "__init__.py":
        assert {name for name, _ in imports(path)} == {"evovlm.api"}
        return
    for name, line in imports(path):
        parts = name.split(".")
        where = f"{path.relative_to(ROOT)}:{line}: imports {name}"
        assert parts[0] == "evovlm", f"{where}, but the package must not know app or benchmarks"
        assert len(parts) > 1, f"{where}, the package root"
        assert FLOOR[parts[1]] <= FLOOR[here], f"{where}, which lies on a higher floor"


def test_no_two_modules_import_each_other():
    arrows: dict[str, set[str]] = {}
    for path in PACKAGE:
        names = {name.split(".")[1] for name, _ in imports(path) if "." in name}
        arrows.setdefault(module_of(path), set()).update(names - {module_of(path)})

    def reach(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        for below in sorted(arrows.get(module, ())):
            reach(below, (*trail, module))

    for module in arrows:
        reach(module, ())


@pytest.mark.parametrize("package", ["evovlm_app", "evovlm_benchmarks"])
def test_app_and_benchmarks_import_evovlm_and_themselves_alone(package: str):
    other = {"evovlm_app": "evovlm_benchmarks", "evovlm_benchmarks": "evovlm_app"}[package]
    for path in sorted((ROOT / package.removeprefix("evovlm_") / package).rglob("*.py")):
        for name, line in imports(path):
            assert name.split(".")[0] != other, f"{path}:{line}: imports {name}"
            assert name != "evovlm", f"{path}:{line}: imports the package root"


def test_every_module_says_what_it_is():
    for path in PACKAGE:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"
