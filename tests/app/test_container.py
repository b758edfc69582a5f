"""The container's files, as far as they can be tested without a container engine."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.app.conftest import free_port

ROOT = Path(__file__).parent.parent.parent


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, lines joined, comments left out."""
    text = "\n".join(
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")
    )
    joined = re.sub(r"\\\n", " ", text)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def test_the_linter_finds_nothing():
    hadolint = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(hadolint).exists():
        pytest.skip("hadolint is not installed here")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_is_there_and_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            *sources, _ = [part for part in rest.split() if not part.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source in allowed, source


def test_it_runs_as_nobody_special_and_asks_its_health_where_it_listens():
    assert last("USER") == "1000"
    assert last("VOLUME") == "/data"
    command = json.loads(last("CMD"))
    port = command[command.index("--port") + 1]
    assert last("EXPOSE") == port
    assert f":{port}/healthz" in last("HEALTHCHECK")


def test_compose_names_the_image_the_volume_and_a_benchmark_that_exists():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert set(compose["services"]) == {"app", "benchmark"}
    for service in compose["services"].values():
        assert service["volumes"] == ["data:/data"]
    module = compose["services"]["benchmark"]["entrypoint"][-1]
    assert find_spec(f"{module}.__main__") or find_spec(module)
    assert compose["services"]["app"]["ports"] == ["127.0.0.1:7860:7860"]


@pytest.mark.slow
def test_the_start_command_and_the_health_check_work(tmp_path: Path):
    port = str(free_port())
    command = [word.replace("7860", port).replace("/data", str(tmp_path)) for word in json.loads(last("CMD"))]
    command = [word.replace("0.0.0.0", "127.0.0.1") for word in command]
    # Empty variables, as compose gives them, must mean no password and no more names.
    empty = {"EVOVLM_AUTH": "", "EVOVLM_ALLOW_HOST": ""}
    environment: dict[str, Any] = os.environ | empty | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as sink:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "evovlm.cli", *command], cwd=ROOT, env=environment, stdout=sink, stderr=sink
        )
    try:
        check = json.loads(last("HEALTHCHECK").split("CMD", 1)[1])[1:]
        words = [sys.executable, *(word.replace("7860", port) for word in check)]
        for _ in range(300):
            assert server.poll() is None, (tmp_path / "log").read_text()
            if subprocess.run(words, capture_output=True).returncode == 0:
                break
            time.sleep(0.3)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as reply:
            assert json.load(reply)["status"] == "ok"
    finally:
        server.terminate()
        server.wait(30)
