"""Whole studies on the zoo, through the command line, as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from evovlm.cli.program import main
from evovlm.cli.progress import JsonWatch
from evovlm.evolution._run import evolve
from evovlm.evolution.plan import EvolveSettings, plan_evolution
from evovlm.recipe.yaml_file import read_recipe
from evovlm.study import log as study_log
from evovlm.system import files
from evovlm.system.errors import RecipeError, StudyError
from evovlm.system.version import commit
from tests.command import evovlm_here
from tests.logged import logged_rows

RECIPES = Path(__file__).parent.parent.parent / "recipes"
SMALL = ["--trials", "10", "--items", "12", "--judged", "24"]


class Silent:
    """Watches nothing."""

    def phase(self, name: str, total: int) -> None: ...

    def step(self, text: str, **figures: float | None) -> None: ...


def words(recipe: str, out: Path, *more: str) -> list[str]:
    return ["evolve", str(RECIPES / recipe), "--out", str(out), *SMALL, *more]


def command(recipe: str, out: Path, *more: str) -> list[str]:
    """For a process of its own, which can be killed."""
    return [sys.executable, "-P", "-m", "evovlm", *words(recipe, out, *more)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nothing disturbed."""
    out = tmp_path_factory.mktemp("study") / "whole"
    done = evovlm_here(*words("zoo-vlm.yaml", out, "--checkpoint", "--json"), folder=out.parent)
    assert done.returncode == 0, done.stderr
    return out


def test_a_study_leaves_everything_that_it_promises(whole: Path):
    for name in ("study.json", "trials.jsonl", "best.yaml", "result.json", "report.html", "heldout_answers.jsonl"):
        assert (whole / name).stat().st_size > 0
    result = json.loads((whole / "result.json").read_text(encoding="utf-8"))
    assert Path(result["checkpoint"]).is_dir()
    assert {"vlm", "ja"} <= set(result["held_out"]["sources"])
    controls = result["held_out"]["controls"]
    assert {"average", "plugged_in", "sweep", "interpolation", "tsv", "shuffled_images"} <= set(controls)
    assert {"prior", "restyled"} <= set(controls)
    for cell in [result["held_out"]["evolved"], *result["held_out"]["sources"].values(), *controls.values()]:
        low, high = cell["ci95"]
        assert 0 <= low <= cell["score"] <= high <= 100
        assert 0 <= cell["exact"] <= cell["content"] <= 1
        low, high = cell["content_ci95"]
        assert 0 <= low <= cell["content"] <= high <= 1
        for versus in (cell["versus_evolved"], cell["content_versus_evolved"]):
            assert versus.get("p_corrected", 1.0) >= versus["p_value"] > 0
    assert controls["restyled"]["tries"] == 3
    assert controls["restyled"]["chosen_on"] == "validation"
    best = result["held_out"]["sources"][controls["restyled"]["source"]]
    assert controls["restyled"]["content"] == best["content"], "rules for style add nothing to what is said"
    assert {"data", "seed", "versions", "hardware", "seconds"} <= set(result)
    assert result["versions"]["commit"] == commit()
    assert commit() in (whole / "report.html").read_text(encoding="utf-8")
    assert commit() in (Path(result["checkpoint"]) / "README.md").read_text(encoding="utf-8")
    assert read_recipe(whole / "best.yaml").digest() == result["digest"]


def test_no_test_item_was_searched_on(whole: Path):
    searched = set(study_log.read_header(whole)["items"]["ids"])
    judged = {row["id"] for row in files.read_rows(whole / study_log.HELD_OUT_ANSWERS)}
    assert len(searched) == 12
    assert len(judged) == 24
    assert not searched & judged


# File of the study, and how many lines it has when the study is killed: while it searches, and while it judges.
MOMENTS = [(study_log.TRIALS, 3), (study_log.HELD_OUT_ANSWERS, 24)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lines"), MOMENTS)
def test_a_study_killed_with_sigkill_ends_with_the_same_log_and_table(
    whole: Path, tmp_path: Path, name: str, lines: int
):
    out = tmp_path / "killed"
    running = subprocess.Popen(command("zoo-vlm.yaml", out, "--json"), stdout=subprocess.DEVNULL)
    log = out / name
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not log.exists() or log.read_bytes().count(b"\n") < lines):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert lines <= log.read_bytes().count(b"\n")
    assert not (out / study_log.RESULT).exists()
    plan = plan_evolution(
        read_recipe(RECIPES / "zoo-vlm.yaml"), RECIPES, EvolveSettings(trials=10, items=12, judged=24)
    )
    evolve(plan, out, Silent())
    assert logged_rows(out) == logged_rows(whole)
    tables = [json.loads((folder / study_log.RESULT).read_text(encoding="utf-8")) for folder in (out, whole)]
    assert tables[0]["held_out"] == tables[1]["held_out"]
    assert tables[0]["selection"] == tables[1]["selection"]


# The line of progress after which the study is killed, and how many times it is printed before: none, or some.
PHASES = {
    "while the winner is chosen": ({"phase": "choice"}, 2),
    "while the controls are chosen": ({"step": "sweep 0.3"}, 0),
    "while the test items are judged": ({"step": "winner"}, 0),
    "before the checkpoint": ({"phase": "checkpoint"}, 0),
    "in the middle of the checkpoint": ({"phase": "checkpoint"}, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", PHASES)
def test_a_study_killed_in_any_later_phase_ends_with_the_same_result(whole: Path, tmp_path: Path, moment: str):
    """Killed `more` lines after the line, which the study has printed before it goes on."""
    out = tmp_path / "killed"
    wanted, more = PHASES[moment]
    again = words("zoo-vlm.yaml", out, "--checkpoint", "--json")
    running = subprocess.Popen([sys.executable, "-P", "-m", "evovlm", *again], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    for line in running.stdout:
        if wanted.items() <= json.loads(line).items():
            break
    for _ in range(more):
        running.stdout.readline()
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    running.stdout.close()
    assert (out / study_log.RESULT).exists() == ("checkpoint" in moment), "the result is there before the checkpoint"
    assert not (out / "checkpoint").exists()
    done = evovlm_here(*again, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert logged_rows(out) == logged_rows(whole)
    results = [json.loads((folder / study_log.RESULT).read_text(encoding="utf-8")) for folder in (out, whole)]
    for result in results:
        result["checkpoint"] = Path(result["checkpoint"]).name
        del result["seconds"]
    assert results[0] == results[1]
    weights = [(folder / "checkpoint" / "model.safetensors").read_bytes() for folder in (out, whole)]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


@pytest.mark.slow
def test_interrupting_a_study_exits_with_130_and_a_sentence(tmp_path: Path):
    out = tmp_path / "interrupted"
    running = subprocess.Popen(command("zoo-vlm.yaml", out), stderr=subprocess.PIPE, text=True)
    log = out / study_log.TRIALS
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not log.exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in told
    assert "interrupted" in told


@pytest.mark.slow
def test_ctrl_c_in_every_phase_ends_with_130_and_the_same_command_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A real signal, raised at each moment in turn; each command takes up what the one before it left."""
    out = tmp_path / "study"
    counts = ["--trials", "2", "--items", "4", "--judged", "6", "--checkpoint", "--json"]
    arguments = ["evolve", str(RECIPES / "zoo-vlm.yaml"), "--out", str(out), *counts]
    waiting = [("step", "trial 0"), ("phase", "choice"), ("phase", "held out"), ("step", "sweep 0.5")]
    waiting += [("step", "winner"), ("phase", "checkpoint"), ("replace", "report.html")]

    def interrupt(kind: str, text: str) -> None:
        if waiting and waiting[0] == (kind, text):
            waiting.pop(0)
            signal.raise_signal(signal.SIGINT)

    def replace(scratch: Path, path: Path, really: Callable[..., None] = os.replace) -> None:
        interrupt("replace", Path(path).name)
        really(scratch, path)

    monkeypatch.setattr(JsonWatch, "phase", lambda self, name, total: interrupt("phase", name))
    monkeypatch.setattr(JsonWatch, "step", lambda self, text, **figures: interrupt("step", text))
    monkeypatch.setattr(os, "replace", replace)
    while waiting:
        left = len(waiting)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert (ended.value.code, len(waiting)) == (130, left - 1)
        assert not list(out.glob(".*.partial")), waiting
        assert "interrupted" in capsys.readouterr().err
        assert not (out / "report.html").exists()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert [row["trial"] for row in logged_rows(out)] == [0, 1]
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["trials"] == 2
    assert (out / "checkpoint" / "model.safetensors").exists()
    assert (out / "report.html").exists()


def test_an_interrupt_that_lands_in_a_finaliser_is_not_lost():
    """Python only reports what a finaliser raises, and goes on."""
    code = """
import signal, sys, time
from evovlm import cli
from evovlm.__main__ import main

class Last:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def work():
    Last()
    time.sleep(60)

cli.main = work
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "interrupted; run the same command again\n"


def test_an_unreadable_image_among_the_search_images_ends_with_2_and_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rng = np.random.default_rng(0)
    for split in ("search", "test"):
        folder = tmp_path / split
        folder.mkdir()
        for number in range(6):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        lines = [f"{split} {number}は何ですか,赤い丸です,{number}.png" for number in range(6)]
        (folder / "items.csv").write_text("\n".join(["question,reference,image", *lines]), encoding="utf-8")
    broken = tmp_path / "search" / "3.png"
    broken.write_bytes(broken.read_bytes()[:300])
    content = yaml.safe_load((RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8"))
    content["data"] = {name: f"custom-vqa@{tmp_path / name / 'items.csv'}:{name}" for name in ("search", "test")}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    counts = ["--trials", "2", "--items", "6", "--judged", "6"]
    with pytest.raises(SystemExit) as ended:
        main(["evolve", str(recipe), "--out", str(tmp_path / "study"), *counts])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert str(broken) in told.replace("\n", "")
    assert "cannot be read" in told
    assert study_log.read_trials(tmp_path / "study") == [], "no candidate's fault"


def test_a_finished_study_does_nothing_twice(whole: Path):
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir() if path.name != study_log.EVENTS}
    plan = plan_evolution(
        read_recipe(RECIPES / "zoo-vlm.yaml"), RECIPES, EvolveSettings(trials=10, items=12, judged=24, checkpoint=True)
    )
    result = evolve(plan, whole, Silent())
    assert result.content() == json.loads((whole / "result.json").read_text(encoding="utf-8"))
    after = {path: path.stat().st_mtime_ns for path in whole.iterdir() if path.name != study_log.EVENTS}
    assert after == before


def test_a_checkpoint_that_is_asked_for_after_the_study_ended_is_written(whole: Path, tmp_path: Path):
    out = tmp_path / "study"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("checkpoint"))
    before = json.loads((out / study_log.RESULT).read_text(encoding="utf-8"))
    del before["checkpoint"]
    files.write_json(out / study_log.RESULT, before)
    settings = EvolveSettings(trials=10, items=12, judged=24, checkpoint=True)
    result = evolve(plan_evolution(read_recipe(RECIPES / "zoo-vlm.yaml"), RECIPES, settings), out, Silent())
    assert result.checkpoint == str(out.resolve() / "checkpoint")
    assert (out / "checkpoint" / "model.safetensors").exists()
    assert result.content()["held_out"] == before["held_out"]


@pytest.mark.slow
def test_the_checkpoint_answers_without_evovlm_as_the_study_says(whole: Path):
    """Another process, transformers alone: the winner's held-out answers come back from its checkpoint."""
    stored = [row for row in files.read_rows(whole / study_log.HELD_OUT_ANSWERS) if row["model"] == "evolved"][:8]
    result = json.loads((whole / "result.json").read_text(encoding="utf-8"))
    from evovlm.tasks import parse_split

    task, split = parse_split(result["data"]["test"])
    items = {item.id: item for item in task.items(split, 24, result["seed"])}
    asked = []
    for number, row in enumerate(stored):
        item = items[row["id"]]
        assert item.image is not None
        item.image().save(whole / f"asked-{number}.png")
        prompt = task.generation.template.replace("{question}", item.question)
        asked.append({"prompt": prompt, "image": str(whole / f"asked-{number}.png"), "answer": row["answer"]})
    (whole / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    program = f"""
import json, sys, torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained({result["checkpoint"]!r})
model = AutoModelForImageTextToText.from_pretrained({result["checkpoint"]!r}, dtype=torch.float32)
for row in json.load(open({str(whole / "asked.json")!r}, encoding="utf-8")):
    inputs = processor(text=row["prompt"], images=Image.open(row["image"]), return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens={task.generation.max_new_tokens}, do_sample=False)
    answer = processor.decode(made[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip()
    assert answer == row["answer"], (answer, row["answer"])
assert not any(name.startswith("evovlm") for name in sys.modules)
print("same")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, cwd="/")
    assert done.stdout.strip().endswith("same"), done.stderr


@pytest.mark.slow
def test_a_language_model_study_runs_by_the_same_command(tmp_path: Path):
    out = tmp_path / "llm"
    done = evovlm_here(*words("zoo-llm.yaml", out, "--json"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert set(result["held_out"]["sources"]) == {"base", "ja", "math", "math2"}
    assert "single_vector" in result["held_out"]["controls"]


def test_a_search_on_a_test_split_is_refused():
    recipe = read_recipe(RECIPES / "zoo-vlm.yaml")
    assert recipe.data is not None
    cheat = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"search": "zoo-vqa:test", "test": "zoo-vqa:search"})}
    )
    with pytest.raises(RecipeError, match="test set"):
        plan_evolution(cheat, RECIPES, EvolveSettings(trials=2, items=4))


def test_another_recipe_does_not_resume_the_study(whole: Path):
    plan = plan_evolution(read_recipe(RECIPES / "zoo-vlm.yaml"), RECIPES, EvolveSettings(trials=10, items=13))
    with pytest.raises(StudyError, match=r"another `recipe.search.items` \(\d+; now 13\)"):
        evolve(plan, whole, Silent())


def test_a_dry_run_writes_nothing(tmp_path: Path):
    out = tmp_path / "dry"
    done = evovlm_here(*words("zoo-vlm.yaml", out, "--dry-run"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "would search" in done.stdout
    assert not out.exists()


@pytest.mark.slow
def test_a_torn_log_of_answers_is_mended_by_asking_that_row_again(whole: Path, tmp_path: Path):
    out = tmp_path / "torn"
    shutil.copytree(whole, out)
    path = out / study_log.HELD_OUT_ANSWERS
    before = path.read_bytes()
    path.write_bytes(before[:-30])
    done = evovlm_here(*words("zoo-vlm.yaml", out, "--checkpoint", "--json"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "its last line was unfinished" in done.stdout + done.stderr
    rows = {tuple(sorted((key, str(value)) for key, value in row.items())) for row in files.read_rows(path)}
    assert rows == {
        tuple(sorted((key, str(value)) for key, value in row.items()))
        for row in files.read_rows(whole / study_log.HELD_OUT_ANSWERS)
    }
    tables = [json.loads((folder / study_log.RESULT).read_text())["held_out"] for folder in (out, whole)]
    assert tables[0] == tables[1]
