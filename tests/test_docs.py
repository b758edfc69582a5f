"""The documentation's commands run, its links lead somewhere, and its Python works."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from tests.command import evovlm_here

ROOT = Path(__file__).parent.parent
# Pages of the repository, of docs/, and of the rooms that have one of their own.
PAGES = sorted(page for place in ("*.md", "docs/*.md", "evovlm/**/README.md") for page in ROOT.glob(place))
CODE = re.compile(r"`((?:app|benchmarks|docs|evovlm|recipes|scripts|tests)/[\w./-]+)`")
BLOCK = re.compile(r"^```(\w+) run\n(.*?)^```", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    """A page by its path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are marked to be run."""
    return [body for name, body in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """An empty folder with the recipes where a user in a clone has them."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=named)
def test_the_commands_of_a_page_run(page: Path, workplace: Path):
    for body in blocks(page, "sh"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            assert words[0] == "evovlm", f"{page.name}: only evovlm commands are run, not {words[0]}"
            done = evovlm_here(*words[1:], folder=workplace)
            assert done.returncode == 0, f"{page.name}: {line}\n{done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_the_python_of_a_page_runs(page: Path, workplace: Path):
    for body in blocks(page, "python"):
        with contextlib.chdir(workplace):
            exec(compile(body, page.name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_within_the_project_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
        link = target[0] or target[1]
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_files_that_a_page_names_are_there(page: Path):
    for name in CODE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{named(page)}: {name}"


def test_every_page_is_found_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in readme, page.name
