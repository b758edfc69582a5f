"""Tasks shared out among forked processes: each done once, errors raised here, nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from evovlm.merging import build
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.recipe.yaml_file import read_recipe
from evovlm.system.errors import CheckpointError
from evovlm.system.fork_pool import MemberLost, can_fork, share_out
from tests.merging.test_build import tensors

pytestmark = pytest.mark.skipif(not can_fork(), reason="needs Linux's fork")
RECIPE = Path(__file__).parent.parent.parent / "recipes" / "zoo-vlm.yaml"
# A merge by two forked processes that lasts until it is stopped: its tensors are announced, then held up.
SLOW = """
import sys, time
from pathlib import Path
from evovlm.merging import build
from evovlm.merging.assembly import Assembly

def slowly(assembly, job, merge=Assembly.merge):
    time.sleep(0.05)
    return merge(assembly, job)

Assembly.merge = slowly
build._members = lambda *_: 2
from evovlm.__main__ import main
sys.argv = ["evovlm", "merge", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("members", [1, 2, 5])
def test_each_task_is_done_once_and_its_answer_handed_over(members: int):
    found: dict[int, tuple[int, int]] = {}
    share_out(range(20), lambda task: (task * task, os.getpid()), found.__setitem__, members)
    assert {task: square for task, (square, _) in found.items()} == {task: task * task for task in range(20)}
    workers = {pid for _, pid in found.values()}
    assert workers == {os.getpid()} if members == 1 else os.getpid() not in workers


def test_what_a_task_raises_is_raised_here_and_the_others_end():
    def task(number: int) -> None:
        if number == 3:
            raise CheckpointError("weights are not finite")
        time.sleep(60)

    before, began = psutil.Process().children(), time.monotonic()
    with pytest.raises(CheckpointError, match="not finite"):
        share_out([0, 3], task, lambda *_: None, 2)
    assert time.monotonic() - began < 30
    assert set(psutil.Process().children()) <= set(before)


def test_an_error_that_cannot_be_pickled_is_told_all_the_same():
    class Local(Exception):
        pass

    def task(number: int) -> None:
        raise Local("told")

    with pytest.raises(RuntimeError, match="told"):
        share_out([0, 1], task, lambda *_: None, 2)


def test_a_member_that_is_killed_is_missed():
    before = psutil.Process().children()
    with pytest.raises(MemberLost, match="-9"):
        share_out([0, 1], lambda task: os.kill(os.getpid(), signal.SIGKILL), lambda *_: None, 2)
    assert set(psutil.Process().children()) <= set(before)


def test_a_merge_whose_process_is_killed_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = os.getpid()

    def killed(*_: object) -> None:
        assert os.getpid() != here, "the merge was not shared out"
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(build, "_members", lambda *_: 2)
    monkeypatch.setattr(build, "refuse_non_finite", killed)
    with pytest.raises(CheckpointError, match="--threads 1"):
        build_checkpoint(assemble(read_recipe(RECIPE), RECIPE.parent), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_merge_by_many_processes_has_the_bits_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assembly = assemble(read_recipe(RECIPE), RECIPE.parent)
    build_checkpoint(assembly, tmp_path / "one", threads=1)
    monkeypatch.setattr(build, "_members", lambda *_: 3)
    build_checkpoint(assembly, tmp_path / "many", max_shard_bytes=1_000_000)
    one, many = (sorted((tmp_path / name).glob("*.safetensors")) for name in ("one", "many"))
    assert len(one) == 1 < len(many)
    left, right = tensors(tmp_path / "one"), tensors(tmp_path / "many")
    assert set(left) == set(right)
    assert all(left[key].view(-1).equal(right[key].view(-1)) for key in left)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nobody_outlives_a_stopped_merge(tmp_path: Path, how: signal.Signals):
    merge = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(RECIPE), str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    members = _members_of(merge)
    if how is signal.SIGINT:
        os.killpg(merge.pid, how)  # as a terminal does: every process gets it
    else:
        merge.send_signal(how)
    _, told = merge.communicate(timeout=60)
    assert psutil.wait_procs(members, timeout=20)[1] == []
    assert not (tmp_path / "out").exists()
    if how is signal.SIGINT:
        assert merge.returncode == 130, told
        assert "Traceback" not in told
        assert list(tmp_path.iterdir()) == []


def _members_of(merge: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Both members, once they are at work."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and merge.poll() is None:
        members = psutil.Process(merge.pid).children()
        if len(members) == 2:
            return members
        time.sleep(0.01)
    raise AssertionError("the merge never forked")


# OpenMP's threads do not live on in a forked process, which would wait for them.
AFTER_THREADS = """
import torch
from evovlm.system.fork_pool import share_out

torch.set_num_threads(4)
table = torch.ones(2**22)
assert float(table.sqrt().sum()) == 2**22
share_out(range(4), lambda number: float((table * number).sqrt().sum()), lambda number, got: print(number, got), 2)
assert torch.get_num_threads() == 4
"""


def test_tasks_that_compute_with_torch_end_after_this_process_used_threads():
    command = [sys.executable, "-c", AFTER_THREADS]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "4"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
