"""What pyproject.toml says is enough is what `make test-lowest` installs."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
UNTESTED = ("dev", "lmeh")  # tools, and a package that wants older ones than all others do


def pins(name: str) -> dict[str, str]:
    """Versions by package of a constraints file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in pairs}


def bounds() -> dict[str, str]:
    """The lower bound of every package that a user may install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: texts for name, texts in project["optional-dependencies"].items() if name not in UNTESTED}
    found = {}
    for requirement in map(Requirement, [*project["dependencies"], *sum(extras.values(), [])]):
        (found[canonicalize_name(requirement.name)],) = (
            part.version for part in requirement.specifier if part.operator == ">="
        )
    return found


def test_the_lowest_lane_installs_the_lower_bounds():
    assert pins("constraints-lowest.txt") == bounds()


def test_what_is_tested_together_lies_within_the_bounds():
    tested = pins("constraints.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: texts for name, texts in project["optional-dependencies"].items() if name != "lmeh"}
    for requirement in map(Requirement, [*project["dependencies"], *sum(extras.values(), [])]):
        assert tested[canonicalize_name(requirement.name)] in requirement.specifier, requirement
