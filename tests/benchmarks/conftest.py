"""One small run of the benchmarks that several tests read."""

from pathlib import Path

import pytest

from tests.command import bench

SUITE = """
models:
  - {name: ja, model: "zoo:ja"}
  - {name: vlm, model: "zoo:vlm"}
tasks:
  - {task: "zoo-vqa:test", items: 40}
  - {task: "zoo-maths:test", items: 40}
batch: 8
"""


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `whole` of an unbroken run, beside its suite."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = bench("run", "suite.yaml", "--out", "whole", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder
