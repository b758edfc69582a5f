"""A study on a disk that is really full: an error of the disk's, no candidate's, and the study goes on in more room."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evovlm.evolution._run import evolve
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from tests.evolution.test_run import Silent
from tests.logged import logged_rows

RECIPES = Path(__file__).parent.parent.parent / "recipes"
MakeDisk = Callable[[str], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Mounts a disk of a given size; called again, it gives the disk another size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(size: str) -> Path:
        options = f"{'remount,' if os.path.ismount(folder) else ''}size={size}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("needs the right to mount a tmpfs")
        return folder

    yield make
    if os.path.ismount(folder):
        # At once, though the store of answers is open until it is collected.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_study_on_a_full_disk_goes_on_when_there_is_room(small_disk: MakeDisk, tmp_path: Path):
    plan = plan_evolution(read_recipe(RECIPES / "zoo-vlm.yaml"), RECIPES, EvolveSettings(trials=3, items=4, judged=6))
    evolve(plan, tmp_path / "whole", Silent())
    lines = []
    for size in ("8k", "64k", "112k"):  # full at its header, among its trials, in the judgement
        disk = small_disk(size)
        with pytest.raises(OSError, match=r"space|full") as caught:
            evolve(plan, disk / "study", Silent())
        assert caught.value.errno == errno.ENOSPC
        lines.append(len(study_log.read_trials(disk / "study")))
    assert lines[0] == 0 < lines[-1], lines
    disk = small_disk("16m")
    evolve(plan, disk / "study", Silent())
    assert logged_rows(disk / "study") == logged_rows(tmp_path / "whole")
    tables = [json.loads((folder / study_log.RESULT).read_text()) for folder in (disk / "study", tmp_path / "whole")]
    assert tables[0]["held_out"] == tables[1]["held_out"]
