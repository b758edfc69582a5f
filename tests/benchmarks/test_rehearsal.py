"""The rehearsal at its smallest size: real commands on checkpoints in the hub's layouts, their rows, table and plot."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from evovlm.models.processors import load_processor
from evovlm_benchmarks.rehearsal.app_steps import STEPS as APP_STEPS
from evovlm_benchmarks.rehearsal.command import DATA
from evovlm_benchmarks.rehearsal.measured import row_of
from evovlm_benchmarks.rehearsal.models import BASE, JA, SEEDS, VLM, Maker, tokenizers
from evovlm_benchmarks.rehearsal.rows import draw, keep, markdown, read_rows
from evovlm_benchmarks.rehearsal.sizes import SIZES
from evovlm_benchmarks.rehearsal.steps import ALONE, STEPS, words_of
from evovlm_benchmarks.rehearsal.watching import watch
from tests.command import evovlm_here

SIZE = SIZES["zoo"]
FAILS = ("python", "-c", "import sys, time; print('half', flush=True); time.sleep(1.2); sys.exit('no such key')")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rehearsal")
    done = evovlm_here("bench", "rehearse", "--work", "work", "--steps", f"{DATA}; check", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "work"


def test_the_models_are_whole_and_differ_as_tuned_ones_do(made: Path):
    base, ja = (AutoModelForCausalLM.from_pretrained(made / name) for name in (BASE, JA))
    change = ja.lm_head.weight.float() - base.lm_head.weight.float()
    assert 0 < float(change.std()) < 0.1 * float(base.lm_head.weight.float().std())
    assert len(list((made / VLM).glob("model-*.safetensors"))) > SIZE.shards
    model, told = AutoModelForImageTextToText.from_pretrained(made / VLM, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    processor = load_processor(made / VLM)
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == model.config.image_token_id == SIZE.tower.vocabulary
    index = json.loads((made / VLM / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in index["weight_map"]


def test_a_model_is_drawn_again_bit_for_bit(tmp_path: Path, made: Path):
    told, _ = tokenizers(SIZE, None)
    Maker(tmp_path, SIZE, torch.device("cpu")).language_model(JA, told)
    for path in sorted(tmp_path.glob(f"{JA}/*.safetensors")):
        assert path.read_bytes() == (made / JA / path.name).read_bytes()


def test_without_work_the_commands_are_shown(tmp_path: Path):
    done = evovlm_here("bench", "rehearse", "--size", "7b", "--device", "cuda", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    for step in STEPS:
        assert (" ".join(words_of(step, SIZES["7b"], "cuda")) in shown) is not step.mergekit
    assert re.search(r"disk: \d\d\.\d GB", shown)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--steps", "chek"), "'chek' is none of them"),
        (("--size", "70b"), "choose from 7b, zoo"),
        (("--tokenizer", "nowhere"), "not a folder"),
        (("--steps", "merge, VLM, GPU"), "is none of them"),
        (("--steps", "merge, LLM pair, mergekit"), "is none of them"),
        (("--mergekit", "nowhere"), "no such file"),
    ],
)
def test_a_mistake_is_told_before_any_work(tmp_path: Path, words: tuple[str, ...], told: str):
    done = evovlm_here("bench", "rehearse", "--work", "w", *words, folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "w" / BASE).exists()


def test_a_command_that_fails_is_a_row_that_says_why(tmp_path: Path):
    done = watch(FAILS, tmp_path)
    row = row_of(STEPS[0], done, tmp_path, 1e9)
    assert row["failed"] == "exit code 1: no such key"
    assert 1.0 < row["silence"] < row["seconds"]
    keep(tmp_path, row)
    keep(tmp_path, row | {"failed": None, "seconds": 2.0, "slower": ["merged on the CPU"]})
    [kept] = read_rows(tmp_path).values()
    assert "merged on the CPU" in markdown([kept])
    draw([kept, {"step": "a & b", "seconds": 5.0, "floor": 1.0}], tmp_path / "plot.svg")
    assert "a &amp; b" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


def test_a_command_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path):
    done = watch(("sh", "-c", "sleep 60 & echo begun; sleep 60"), tmp_path, limit=1.0)
    assert done.code is None
    assert done.seconds < 20
    assert row_of(STEPS[0], done, tmp_path, 1e9)["failed"].startswith("stopped after")


def test_another_program_merges_the_same_pair(tmp_path: Path):
    program = tmp_path / "mergekit-yaml"  # stands for the real one, which has an environment of its own
    program.write_text("#!/bin/sh\ngrep -q dare_ties $1 && cp -r ja $2 && echo merged\n", encoding="utf-8")
    program.chmod(0o755)
    step = "merge, LLM pair, mergekit"
    words = ("--work", "work", "--steps", f"{DATA}; {step}", "--mergekit", program.name)
    done = evovlm_here("bench", "rehearse", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    row = read_rows(tmp_path / "work")[step]
    assert row["command"] == "mergekit-yaml pair-for-mergekit.yaml out-mk --no-write-model-card"
    assert row["ratio"] > 0
    assert (tmp_path / "work" / "logs" / f"{step}.txt").read_text(encoding="utf-8") == "merged\n"
    assert not (tmp_path / "work" / "out-mk").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_of_the_whole_job_ends_well(made: Path):
    done = evovlm_here("bench", "rehearse", "--work", made.name, folder=made.parent)
    assert done.returncode == 0, done.stderr
    rows = read_rows(made)
    assert set(rows) == {
        DATA,
        *(f"make {name}" for name in SEEDS),
        *(step.name for step in STEPS if not step.gpu and not step.mergekit),
        *APP_STEPS,
    }
    assert rows["merge, VLM, CPU"]["ratio"] > 0
    assert {"merge", "prefill", "decode"} <= set(rows[ALONE]["phases"])
    told = " ".join(rows[ALONE]["told"])
    assert re.search(r"candidate .* times its floor the first one .* rows of 4 questions, .* times a candidate", told)
    assert not (made / "study" / "checkpoint").exists(), "outputs go when they are measured"
    assert (made / "table.svg").is_file()
    again = evovlm_here("bench", "rehearse", "--work", made.name, folder=made.parent)
    assert again.returncode == 0
    assert read_rows(made) == rows, "steps that are done are not run again"
