"""`--device auto` means the device that a study was begun on, else a GPU if one works; a named device is itself."""

import json
from pathlib import Path

import pytest
import torch

from evovlm.study.device import device_of
from evovlm.study.log import HEADER
from evovlm.system.device import chosen_device

BEST = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def gpu_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch could use a GPU here: a tensor for it is made in the CPU's memory."""
    zeros = torch.zeros

    def made(count: int, device: str) -> torch.Tensor:
        return zeros(count)

    monkeypatch.setattr(torch, "zeros", made)


def test_a_named_device_is_itself_and_auto_is_one_that_works(tmp_path: Path):
    assert [chosen_device(name) for name in ("cpu", "cuda:1", "auto")] == ["cpu", "cuda:1", BEST]
    assert device_of("cuda:1", tmp_path) == "cuda:1"
    assert device_of("auto", tmp_path) == BEST


@pytest.mark.usefixtures("gpu_that_works")
def test_a_gpu_that_works_is_chosen_but_not_for_a_study_of_the_cpu(tmp_path: Path):
    assert chosen_device("auto") == "cuda"
    assert device_of("auto", tmp_path) == "cuda"
    (tmp_path / HEADER).write_text(json.dumps({"format": 1, "device": "cpu"}), encoding="utf-8")
    assert device_of("auto", tmp_path) == "cpu"
    assert device_of("cuda", tmp_path) == "cuda"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_study_of_a_gpu_that_is_not_here_leaves_the_cpu(tmp_path: Path):
    (tmp_path / HEADER).write_text(json.dumps({"format": 1, "device": "cuda"}), encoding="utf-8")
    assert device_of("auto", tmp_path) == "cpu"
