"""A device that is not there ends a command before it begins, in one short sentence."""

from pathlib import Path

import pytest
import torch

from evovlm.system.device import check_device
from evovlm.system.errors import UserError
from tests.command import evovlm_here

ABSENT = ["cuda:99", *([] if torch.backends.mps.is_available() else ["mps"])]


@pytest.mark.parametrize("device", ABSENT)
def test_suggest_says_before_any_work_that_a_device_is_not_there(device: str, tmp_path: Path):
    words = ["suggest", "zoo:ja", "zoo:math", "--base", "zoo:base", "--data", "zoo-maths:search", "--device", device]
    done = evovlm_here(*words, folder=tmp_path)
    assert done.returncode == 2
    assert f"error: --device {device}: " in done.stderr
    assert "task vectors" not in done.stderr


@pytest.mark.parametrize("device", ABSENT)
def test_the_sentence_on_a_device_that_is_not_there_is_short(device: str):
    with pytest.raises(UserError, match=f"--device {device}: .*use cpu, or cuda where torch sees a GPU") as refused:
        check_device(device)
    assert len(str(refused.value)) < 300


def test_a_long_name_of_a_device_is_cut():
    with pytest.raises(UserError, match="unknown device name") as refused:
        check_device("x" * 100_000)
    assert len(str(refused.value)) < 300


def test_suggest_can_be_told_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Offline nothing can be fetched, which only a command that tries to fetch says."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = ["suggest", "zoo:ja", "nobody/none", "--base", "zoo:base", "--data", "zoo-maths:search"]
    plain, fetching = (evovlm_here(*words, *more, folder=tmp_path) for more in ([], ["--download"]))
    assert (plain.returncode, fetching.returncode) == (2, 2)
    assert "fetch it first with" in plain.stderr
    assert "check the network" in fetching.stderr
