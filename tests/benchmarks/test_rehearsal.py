"""The rehearsal at its smallest size: real commands on checkpoints in the hub's layouts, their rows, table and plot."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from evovlm.models.processors import load_processor
from evovlm.system.errors import UserError
from evovlm_benchmarks.rehearsal.app_steps import STEPS as APP_STEPS
from evovlm_benchmarks.rehearsal.command import DATA, Rehearsal, _chosen
from evovlm_benchmarks.rehearsal.folder import MARKER, begin_folder, steps_to_run
from evovlm_benchmarks.rehearsal.measured import disk_rate, row_of
from evovlm_benchmarks.rehearsal.models import BASE, JA, SEEDS, VLM, Maker, is_whole, tokenizers
from evovlm_benchmarks.rehearsal.rows import ROWS, draw, keep, markdown, read_rows
from evovlm_benchmarks.rehearsal.sizes import SIZES
from evovlm_benchmarks.rehearsal.steps import ALONE, STEPS, words_of, write_recipes
from evovlm_benchmarks.rehearsal.watching import gpu_id, watch
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
        (("--mergekit", "plain"), "--mergekit plain: is not executable"),
        (("--tokenizer", "empty"), "--tokenizer empty: has no tokenizer.json"),
        (("--tokenizer", "damaged"), "--tokenizer: damaged/tokenizer.json:1:2: not valid JSON"),
        (("--steps", "report"), "add the step 'evolve, one question a picture', which writes it"),
        (("--steps", "bench run"), "'bench run' reads w/suite.yaml, which is missing; add the step 'make data'"),
        (("--steps", f"report; {ALONE}"), "reads w/single.yaml, which is missing; add the step 'make data'"),
        (("--steps", "app"), "'app' reads w/recipe.yaml, which is missing; add the step 'make data'"),
    ],
)
def test_a_mistake_is_told_before_any_work(tmp_path: Path, words: tuple[str, ...], told: str):
    (tmp_path / "plain").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "tokenizer.json").write_text("{", encoding="utf-8")
    done = evovlm_here("bench", "rehearse", "--work", "w", *words, folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "w" / BASE).exists()


TOKENIZERS: dict[str, tuple[str, object, str]] = {
    "too large": ("tokenizer.json", 3 * 2**30, "tokenizer.json: cannot be read: it has more than 67,108,864 bytes"),
    "without keys": ("tokenizer.json", {}, "tokenizer.json: `model.vocab` must be an object from token to id"),
    "null": ("tokenizer.json", None, "tokenizer.json: holds null, not an object"),
    "a key left out": ("tokenizer.json", {"model": {"vocab": {"a": 0}}}, "the key 'added_tokens' is missing"),
    "settings": ("tokenizer_config.json", [], "tokenizer_config.json: holds a list, not an object"),
}


@pytest.mark.parametrize("case", sorted(TOKENIZERS))
def test_a_damaged_tokenizer_is_named_with_its_key(tmp_path: Path, case: str):
    name, content, told = TOKENIZERS[case]
    tokenizers(SIZE, None)[0].save_pretrained(tmp_path)
    if isinstance(content, int):
        os.truncate(tmp_path / name, content)  # sparse: it takes no room
    else:
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(told)) as found:
        tokenizers(SIZE, tmp_path)
    assert name.partition(".")[0] in str(found.value)


@pytest.mark.parametrize("lost", ["*.safetensors", "model-00001*", "tokenizer.json", "config.json"])
def test_a_model_that_lost_a_file_is_not_whole(tmp_path: Path, made: Path, lost: str):
    assert is_whole(made / VLM)
    shutil.copytree(made / VLM, tmp_path / VLM)
    for path in (tmp_path / VLM).glob(lost):
        path.unlink()
    assert not is_whole(tmp_path / VLM)


def test_a_model_without_weights_is_made_again(tmp_path: Path, made: Path):
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(made / MARKER, work)
    told, _ = tokenizers(SIZE, None)
    Maker(work, SIZE, torch.device("cpu")).language_model(JA, told)
    for path in (work / JA).glob("*.safetensors"):
        path.unlink()
    again = Rehearsal(work, SIZE, "cpu", None, None)
    assert [row["step"] for row in again._provide([JA])] == [f"make {JA}"]
    assert is_whole(work / JA)
    assert list(again._provide([JA])) == []


def test_long_words_are_cut(tmp_path: Path):
    (tmp_path / MARKER).write_text(json.dumps({"size": "s" * 60_000}), encoding="utf-8")
    with pytest.raises(UserError, match="holds a rehearsal of size sss") as told:
        begin_folder(tmp_path, "zoo")
    assert len(str(told.value)) < 500
    with pytest.raises(UserError, match="--steps: 'xxx") as told:
        _chosen("zoo", "x" * 60_000, "cpu", None)
    assert len(str(told.value)) < 1000


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


def test_a_program_that_cannot_be_started_is_a_failed_row(tmp_path: Path):
    program = tmp_path / "mergekit-yaml"
    program.write_bytes(b"\x7fELF, but not really")
    program.chmod(0o755)
    done = watch((str(program),), tmp_path)
    assert row_of(STEPS[0], done, tmp_path, 1e9)["failed"].startswith(f"exit code 126: {program}: cannot be started (")


def test_the_memory_of_the_gpu_in_use_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "nvidia-smi"  # stands for the driver's: 100 MiB of the second GPU are in use, and then 300
    second = 'case "$*" in *--id=1*) echo 100; sleep 0.1; echo 300;; *) echo 7;; esac\n'
    tool.write_text(f"#!/bin/sh\n{second}exec sleep 60\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert watch(("sleep", "2"), tmp_path, gpu="1").gpu == 200 * 2**20
    assert gpu_id("cpu") == "0"


def test_an_interrupted_copy_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sample = tmp_path / "model.safetensors"
    sample.write_bytes(b"x" * 100)
    assert disk_rate(tmp_path, sample) > 0

    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        disk_rate(tmp_path, sample)
    assert list(tmp_path.iterdir()) == [sample]


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path):
    mine = tmp_path / "p" / BASE / "weights.bin"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine", encoding="utf-8")
    done = evovlm_here("bench", "rehearse", "--work", "p", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: --work p: holds files of something else; choose a new folder\n"
    assert [path for path in (tmp_path / "p").rglob("*") if path.is_file()] == [mine]


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ('{"size": "7b"}', "error: --work p: holds a rehearsal of size 7b; give `--size 7b`, or choose a new folder\n"),
        ("{}", "error: p/rehearsal.json: names no size of a rehearsal; choose a new folder by --work\n"),
        ("{", "error: p/rehearsal.json:1:2: not valid JSON: "),
    ],
)
def test_a_rehearsal_of_another_size_is_refused(tmp_path: Path, marker: str, told: str):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / MARKER).write_text(marker, encoding="utf-8")
    done = evovlm_here("bench", "rehearse", "--work", "p", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert [path.name for path in (tmp_path / "p").iterdir()] == [MARKER]


def test_damaged_rows_are_left_out_with_a_sentence(tmp_path: Path):
    work = tmp_path / "w"
    begin_folder(work, "zoo")
    kept = {"step": DATA, "seconds": 1.5}
    lines = ["{}", "not JSON", json.dumps(kept), '{"step": "check", "seconds": "long"}', '{"step": "repo']
    (work / ROWS).write_text("\n".join(lines), encoding="utf-8")
    write_recipes(work, SIZE)
    done = evovlm_here("bench", "rehearse", "--work", "w", "--steps", DATA, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"note: w/{ROWS}:2: damaged line; left out\n" in done.stderr
    assert f"note: w/{ROWS}:1: not the row of a step, and so are 4; left out\n" in done.stderr
    assert not (work / BASE).exists()
    assert read_rows(work, lambda text: None) == {DATA: kept}
    with pytest.raises(UserError, match=re.escape(f"{ROWS}:2: damaged line")):
        read_rows(work)


def test_a_step_whose_files_are_gone_is_run_again_for_one_that_reads_them(tmp_path: Path):
    needs = {"one": {}, "two": {"one": "a"}, "three": {"two": "b"}}
    done = {"one": {"step": "one"}, "two": {"step": "two"}}
    assert steps_to_run(tmp_path, ["one", "two", "three"], done, needs) == {"one", "two", "three"}
    (tmp_path / "b").touch()
    assert steps_to_run(tmp_path, ["one", "two", "three"], done, needs) == {"three"}


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
