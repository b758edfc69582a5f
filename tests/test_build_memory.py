"""The memory that a merge takes, measured in a process of its own: bounded by its largest tensor, not by the model."""

import json
import math
import subprocess
import sys
from pathlib import Path

from benchmarks.merge_speed import SCALES, Scale, make_checkpoints, write_recipe

SCALE = Scale(hidden=512, intermediate=1792, layers=10, heads=8, key_value_heads=2, vocabulary=2000)
SOURCES, SHARD = 2, 8_000_000
MEASURE = """
import json, sys, threading
from pathlib import Path
from evovlm.assembly import assemble
from evovlm.build import build_checkpoint
from evovlm.recipe_file import read_recipe

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def watch():
    global peak
    while not ended.wait(0.001):
        peak = max(peak, anonymous())

warm, recipe, out = map(Path, sys.argv[1:4])
build_checkpoint(assemble(read_recipe(warm), warm.parent), out / "warm")  # imports, and each thread's scratch
before, ended = anonymous(), threading.Event()
peak = before
watcher = threading.Thread(target=watch)
watcher.start()
plan, shard = assemble(read_recipe(recipe), recipe.parent), int(sys.argv[4])
report = build_checkpoint(plan, out / "whole", max_shard_bytes=shard, threads=2)
ended.set()
watcher.join()
print(json.dumps({"taken": peak - before, "written": report.nbytes}))
"""


def recipe_of(folder: Path, scale: Scale) -> Path:
    folder.mkdir()
    return write_recipe(folder / "merge.yml", make_checkpoints(folder, scale, SOURCES), "dare_ties", 0.5)


def test_a_merge_takes_its_largest_tensor_a_few_times_and_a_shard_at_most(tmp_path: Path):
    warm, whole = recipe_of(tmp_path / "small", SCALES["small"]), recipe_of(tmp_path / "large", SCALE)
    words = [sys.executable, "-c", MEASURE, str(warm), str(whole), str(tmp_path), str(SHARD)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    largest = max(math.prod(shape) for _, shape in SCALE.tensors())
    bound = 4 * largest * (SOURCES + 3) + SHARD
    assert found["written"] > 2 * bound, "a merge that held the whole model would pass too"
    assert 0 < found["taken"] < bound, found
