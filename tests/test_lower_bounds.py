"""What pyproject.toml says is enough is what `make test-lowest` installs."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def pins(name: str) -> dict[str, str]:
    """Versions by package of a constraints file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in pairs}


def requirements(*left_out: str) -> list[Requirement]:
    """What pyproject.toml asks for, by itself and by its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [texts for name, texts in project["optional-dependencies"].items() if name not in left_out]
    return [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]


def test_the_lowest_lane_installs_the_lower_bounds():
    bounds = {}
    # Left out: tools, and a package that wants older ones than all others do.
    for requirement in requirements("dev", "lmeh"):
        (lowest,) = (part.version for part in requirement.specifier if part.operator == ">=")
        bounds[canonicalize_name(requirement.name)] = lowest
    assert pins("constraints-lowest.txt") == bounds


def test_what_is_tested_together_lies_within_the_bounds():
    tested = pins("constraints.txt")
    for requirement in requirements("lmeh"):
        assert tested[canonicalize_name(requirement.name)] in requirement.specifier, requirement
