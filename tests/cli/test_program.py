"""What the machine lacks, and what no candidate of a search was to blame for, ends a command with one sentence."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from evovlm import api
from evovlm.cli.program import main
from evovlm.system.crash_log import UNFORESEEN
from evovlm.system.errors import CandidateFault, NotFinite

TOLD = {
    "not enough memory (12 GB": MemoryError("12 GB"),
    "not enough memory (CUDA out of memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "not enough memory ([enforce fail": RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory: 9 bytes"),
    "not enough memory ([Errno 12]": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "the GPU cannot be used any more": RuntimeError("CUDA error: device-side assert triggered\nCompile with ..."),
    "weights.safetensors: No space left": OSError(errno.ENOSPC, "No space left on device", "weights.safetensors"),
    "shard: Too many open files": OSError(errno.EMFILE, "Too many open files", "shard"),
    "shard: File too large": OSError(errno.EFBIG, "File too large", "shard"),
    "every answer is empty": CandidateFault("every answer is empty"),
    "the logits are not finite": NotFinite("the logits are not finite"),
}


@pytest.mark.parametrize("told", TOLD)
def test_the_machines_faults_are_a_sentence_and_exit_code_2(
    told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(*given: Any, **more: Any) -> None:
        raise TOLD[told]

    monkeypatch.setattr(api, "evaluate", fails)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "zoo:ja", "--data", "zoo-maths:test"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "loading ..."
    assert len(lines) == 2
    assert lines[1].startswith(f"error: {told}")


def test_a_bug_is_not_taken_for_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fails(*given: Any, **more: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(api, "evaluate", fails)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "zoo:ja", "--data", "zoo-maths:test"])
    assert ended.value.code == UNFORESEEN
    assert "an unforeseen error (RuntimeError: shapes differ)" in capsys.readouterr().err
