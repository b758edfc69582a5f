"""The memory that a merge takes, measured in a process of its own: bounded by its largest tensor, not by the model."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from evovlm_benchmarks.merge_speed import SCALES, Scale, make_checkpoints, write_recipe

# As large as it takes for two processes to fit below the bound, and the model twice above it.
SCALE = Scale(hidden=512, intermediate=1792, layers=14, heads=8, key_value_heads=2, vocabulary=4000)
SOURCES, SHARD = 2, 10_000_000
MEASURE = """
import json, os, sys, threading
from pathlib import Path
import psutil
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.recipe.yaml_file import read_recipe

def anonymous(pid):
    # In proportional shares: a page that a forked process shares with its parent counts once.
    lines = open(f"/proc/{pid}/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon"))

def watch():
    global peak, most
    me = psutil.Process()
    while not ended.wait(0.002):
        try:
            members = me.children()
            taken = sum(anonymous(one.pid) for one in (me, *members))
            # One that ended in between left its shares to the others, where they would count twice.
            if me.children() == members and all(one.status() != psutil.STATUS_ZOMBIE for one in members):
                peak, most = max(peak, taken), max(most, len(members))
        except (OSError, StopIteration, psutil.Error):  # it ended meanwhile
            pass

warm, recipe, out = map(Path, sys.argv[1:4])
build_checkpoint(assemble(read_recipe(warm), warm.parent), out / "warm")  # imports, and the scratch that is kept
for threads in (1, 2, 8):
    peak = before = anonymous(os.getpid())
    most, ended = 0, threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    plan, shard = assemble(read_recipe(recipe), recipe.parent), int(sys.argv[4])
    report = build_checkpoint(plan, out / f"whole{threads}", max_shard_bytes=shard, threads=threads)
    ended.set()
    watcher.join()
    print(json.dumps({"threads": threads, "taken": peak - before, "written": report.nbytes, "forked": most}))
"""


def recipe_of(folder: Path, scale: Scale) -> Path:
    folder.mkdir()
    return write_recipe(folder / "merge.yml", make_checkpoints(folder, scale, SOURCES), "dare_ties", 0.5)


@pytest.mark.slow
def test_a_merge_takes_its_largest_tensor_a_few_times_and_a_shard_at_most_on_any_number_of_threads(tmp_path: Path):
    warm, whole = recipe_of(tmp_path / "small", SCALES["small"]), recipe_of(tmp_path / "large", SCALE)
    words = [sys.executable, "-c", MEASURE, str(warm), str(whole), str(tmp_path), str(SHARD)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    largest = max(math.prod(shape) for _, shape in SCALE.tensors())
    bound = 4 * largest * (SOURCES + 3) + SHARD
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["threads"] for row in found] == [1, 2, 8]
    for row in found:
        assert row["written"] > 2 * bound, "a merge that held the whole model would pass too"
        assert 0 < row["taken"] < bound, found
    assert [row["forked"] for row in found] == [0, 2, 2], "as many as the bound has room for"
