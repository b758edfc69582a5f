"""What the linters do not see of how the code is laid out. Who may import whom is import-linter's (pyproject.toml)."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("evovlm", "app/evovlm_app", "benchmarks/evovlm_benchmarks")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if ROOT / "tests" / "fixtures" not in path.parents)
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
# Modules without an underscore though only their own folder imports them, by folder and kind.
PUBLIC_IN_THEIR_FOLDER = {
    # Commands, which `program` puts together: each is called like its command.
    "evovlm.cli": "convert doctor evaluate evolve merge methods recipe study suggest zoo",
    # Rows that a registry loads: each is called like its methods or its task.
    "evovlm.methods": "consensus fusion knots wudi",
    "evovlm.tasks": "custom gsm8k_ja_search in_the_wild ja_vg_vqa_500 ja_vg_vqa_search jcommonsenseqa"
    " zoo_maths zoo_medium",
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


def test_every_module_says_what_it_is():
    assert [named(path) for path in MODULES if not ast.get_docstring(tree_of(path))] == []


def test_every_file_is_short_enough_to_read():
    paths = [*MODULES, *TESTS]
    assert len(paths) > 500
    assert [named(path) for path in paths if len(text_of(path).splitlines()) > MOST_LINES] == []


def test_every_function_is_short_enough_to_read():
    long = []
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                # From `def` on: the options of a command line count, its decorators do not.
                if node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{named(path)}: {node.name}")
    assert long == []


def name_of(path: Path) -> str:
    """The name that a module of a package is imported by."""
    package = next(ROOT / package for package in PACKAGES if path.is_relative_to(ROOT / package))
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_by(path: Path) -> set[str]:
    """The modules that a module imports, and the names that it takes from them."""
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def handed_on(path: Path) -> set[str]:
    """The modules of which a folder's `__init__` hands names on: those that its `__all__` lists."""
    tree = tree_of(path)
    public: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            public |= set(ast.literal_eval(node.value))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {node.module for node in imports if node.module and public & {alias.name for alias in node.names}}


def dotted_and_paths(text: str) -> set[str]:
    """The names of modules and files in a text, and their beginnings: `evovlm.a.B` tells of `evovlm.a` too."""
    found = set(re.findall(r"evovlm[\w./]*\w", text))
    return {name[:end] for name in found for end in (*(at.start() for at in re.finditer(r"[./]", name)), len(name))}


def test_a_module_that_only_its_own_folder_imports_has_an_underscore():
    """import-linter keeps others from private modules; this keeps modules that no other needs from looking public."""
    public: set[str] = set()
    for path in MODULES:
        folder = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
        for name in imported_by(path):
            home = name.rpartition(".")[0]
            if folder != home and not folder.startswith(f"{home}."):
                public.add(name)
        if path.name == "__init__.py":
            public |= handed_on(path)
    # Not the map of the code, which names private modules too.
    pages = [page for page in (ROOT / "docs").glob("*.md") if page.name != "architecture.md"]
    told = dotted_and_paths("\n".join(text_of(page) for page in [*pages, ROOT / "pyproject.toml"]))
    alone = set()
    for path in (ROOT / "evovlm").glob("*/**/*.py"):
        name = name_of(path)
        if not path.name.startswith("_") and name not in public and not {name, named(path)} & told:
            alone.add(name)
    listed = {f"{folder}.{one}" for folder, names in PUBLIC_IN_THEIR_FOLDER.items() for one in names.split()}
    assert alone - listed == set(), "rename it, and what imports it"
    assert listed - alone == set(), "no exception any more: take it off the list"


def test_the_packages_root_holds_nothing_but_the_way_in():
    assert {path.name for path in (ROOT / "evovlm").glob("*.py")} <= {"__init__.py", "__main__.py", "api.py"}


def test_import_linter_knows_every_package_that_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    installed = settings["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {Path(package).name for package in installed} == set(settings["importlinter"]["root_packages"])
    assert tuple(installed) == PACKAGES
