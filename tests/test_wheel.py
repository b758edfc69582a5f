"""What a user installs: the wheel's content, and README's commands from a folder with misleading files."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.app.conftest import free_port
from tests.test_docs import ROOT, blocks

PACKAGES = {"evovlm": "evovlm", "evovlm_app": "app/evovlm_app", "evovlm_benchmarks": "benchmarks/evovlm_benchmarks"}
# Names that evovlm or its libraries import, in the way of whoever puts the working directory on Python's path.
MISLEADING = ("app.py", "benchmarks/__init__.py", "random.py", "numpy.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without a network."""
    out = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-P", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*words, "--wheel-dir", out, ROOT], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_three_packages_whole_and_the_recipes(wheel: Path):
    held = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    wanted = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    recipes = {f"evovlm/recipe/shipped/{path.name}" for path in (ROOT / "recipes").iterdir()}
    assert len(recipes) >= 8
    assert {name for name in held if ".dist-info/" not in name} == wanted | recipes
    # What is not Python and would be missed late: weights, presets, suites, styles, scripts.
    for ending in (".safetensors", ".yaml", ".css", ".js", "py.typed"):
        assert any(name.endswith(ending) for name in wanted), ending
    assert {"evovlm/zoo/weights/manifest.json", "evovlm_benchmarks/suites/zoo.yaml"} <= held


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel and this environment's other packages."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # Found after what is installed here; .pth files there, such as an editable evovlm's, are not read.
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    words = [sys.executable, "-P", "-m", "pip", "--python", folder / "bin" / "python", "install"]
    done = subprocess.run([*words, "--no-deps", "--no-index", wheel], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


@pytest.fixture
def misleading(tmp_path: Path) -> Path:
    """A folder whose files end whatever imports them."""
    for name in MISLEADING:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise SystemExit('the user\\'s {name} was run')\n", encoding="utf-8")
    return tmp_path


def environment() -> dict[str, str]:
    """Without what would lead to this tree."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    return kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "300"}


def run(installed: Path, folder: Path, *words: str) -> str:
    """Standard output of a command that succeeds."""
    done = subprocess.run(
        [installed / words[0], *words[1:]], cwd=folder, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_python_would_run_the_misleading_files(installed: Path, misleading: Path):
    """Else the other tests prove nothing."""
    for module in ("app", "benchmarks", "random", "numpy"):
        words = [installed / "python", "-c", f"import {module}"]
        done = subprocess.run(words, cwd=misleading, env=environment(), capture_output=True, text=True)
        assert "was run" in done.stderr, module


@pytest.mark.slow
def test_the_readmes_commands_run_from_a_folder_with_misleading_files(installed: Path, misleading: Path):
    lines = [shlex.split(line) for body in blocks(ROOT / "README.md", "sh") for line in body.splitlines() if line]
    assert len(lines) >= 7
    said = {" ".join(words[1:3]): run(installed, misleading, *words) for words in lines}
    assert str(installed.parent) in said["zoo list"]
    assert "zoo-medium-vlm" in said["recipe list"]
    assert str(ROOT) not in "".join(said.values())
    assert not (misleading / "recipes").exists()
    assert re.fullmatch(r"evovlm [\d.]+ \(record-[0-9a-f]{12}\)\n", run(installed, misleading, "evovlm", "--version"))


@pytest.mark.slow
def test_python_finds_the_front_door_there(installed: Path, misleading: Path):
    code = "import evovlm; print(evovlm.__file__); print(evovlm.Recipe.read('zoo-llm').digest())"
    file, digest = run(installed, misleading, "python", "-P", "-c", code).split()
    assert Path(file).is_relative_to(installed.parent)
    assert len(digest) == 32


@pytest.mark.slow
def test_the_benchmarks_open_there(installed: Path, misleading: Path):
    assert "evovlm bench" in run(installed, misleading, "evovlm", "bench", "--help")
    assert "zoo-medium" in run(installed, misleading, "evovlm", "bench", "tasks")
    assert "unknown study" not in run(installed, misleading, "evovlm", "bench", "study", "--help")


@pytest.mark.slow
def test_the_app_opens_there_on_a_shipped_recipe(installed: Path, misleading: Path):
    port = free_port()
    words = ["app", "--port", str(port), "--models", "zoo-vlm"]
    with (misleading / "log").open("w", encoding="utf-8") as sink:
        server = subprocess.Popen(
            [installed / "evovlm", *words], cwd=misleading, env=environment(), stdout=sink, stderr=sink
        )
    try:
        status = None
        while status is None:
            assert server.poll() is None, (misleading / "log").read_text(encoding="utf-8")[-4000:]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as reply:
                    status = reply.status
            except OSError:
                time.sleep(0.3)
        assert status == 200
    finally:
        server.terminate()
        server.wait(30)
