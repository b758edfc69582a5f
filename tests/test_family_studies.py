"""Whole studies of Qwen2.5-VL and Qwen3-VL with a Japanese model, as a user runs them: from files, by relative paths.

The recipes are those that ship; their models are cut down and speak hiragana only, so that answers count as Japanese.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from evovlm.engines.hf import Engine
from evovlm.models.processors import load_processor
from evovlm.study import log as study_log
from evovlm.system import files
from evovlm.tasks import Generation, Item
from evovlm.tasks.metrics.rouge import rouge_l_ja
from tests.command import Done, evovlm_here
from tests.logged import logged_rows
from tests.test_family_recipes import ROOT, read_json, save_models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RECIPES = ("qwen2.5-vl-abeja", "qwen3-vl-swallow")
SHORT: dict[str, Any] = {"template": "<image>\n{question}", "max_new_tokens": 8}
FEW = ("--trials", "6", "--items", "6", "--judged", "6")
COUNT = 12  # items of a split


@dataclass(frozen=True)
class Place:
    """A user's folder: recipes, models and data."""

    root: Path
    name: str

    @property
    def recipe(self) -> str:
        return f"recipes/{self.name}.yaml"

    def evovlm(self, *words: str, code: int = 0) -> Done:
        done = evovlm_here(*words, folder=self.root)
        assert done.returncode == code, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done

    def changed(self, name: str, **changes: Any) -> str:
        """The recipe with other keys, as a file beside it."""
        content = yaml.safe_load((self.root / self.recipe).read_text(encoding="utf-8"))
        content["search"] |= changes.pop("search", {})
        path = self.root / "recipes" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
        return f"recipes/{name}.yaml"


def speak_hiragana(folder: Path, tokenizer: Any) -> None:
    """Let a model's head know no other tokens."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    head = tensors["lm_head.weight"]
    known = [row for token, row in tokenizer.get_vocab().items() if all("ぁ" <= letter <= "ゖ" for letter in token)]
    kept = torch.zeros(len(head), 1)
    kept[known] = 1
    head.mul_(kept)
    save_file(tensors, path, metadata={"format": "pt"})


def items(split: str) -> list[Item]:
    """Two questions about each picture."""

    def picture(key: int) -> Image.Image:
        noise = np.random.default_rng(key).integers(0, 256, (5, 4, 3), dtype=np.uint8)
        return Image.fromarray(noise).resize((120, 90), Image.Resampling.NEAREST)

    first = {"search": 0, "other": 100, "validation": 200, "test": 300}[split]
    questions = ("what is this", "how many red things are there")  # the text models' tokenizers know no Japanese
    return [
        Item(f"{split}-{n}", questions[n % 2], ("x",), image=lambda key=first + n // 2: picture(key))  # type: ignore[misc]
        for n in range(COUNT)
    ]


def save_data(folder: Path, engine: Engine) -> None:
    """Files of questions; half of the references are what the vision-language model says."""
    for split in ("search", "other", "validation", "test"):
        asked = items(split)
        said = engine.answer(engine.prepare(asked, Generation(**SHORT), 4))
        (folder / split).mkdir(parents=True)
        lines = []
        for n, (item, answer) in enumerate(zip(asked, said, strict=True)):
            assert item.image is not None
            item.image().save(folder / split / f"{n // 2}.png")
            row = {"id": item.id, "question": item.question, "reference": answer, "image": f"{split}/{n // 2}.png"}
            lines.append(json.dumps(row, ensure_ascii=False))
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module", params=RECIPES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    name, root = request.param, tmp_path_factory.mktemp("user")
    content = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    models = save_models(name, root / "models")
    for one in (content["base"], *content["sources"]):
        folder = models[one["model"]]
        speak_hiragana(folder, load_tokenizer(folder))
        one["model"] = f"../{folder.relative_to(root)}"
    splits = {split: f"custom-vqa@../data/{split}.jsonl:{split}" for split in ("search", "validation", "test")}
    content |= {"groups": 2, "dtype": "float32", "data": content["data"] | splits | {"preset": "greedy+short.yaml"}}
    content["search"]["race"] = False  # a race logs a generation at a time; one test asks for it
    save_data(root / "data", Engine.load(root / "models" / "seeing"))
    (root / "recipes").mkdir()
    (root / "recipes" / "short.yaml").write_text(yaml.safe_dump(SHORT), encoding="utf-8")
    (root / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return Place(root, name)


def load_tokenizer(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def whole(place: Place) -> Path:
    """A study that nothing disturbed."""
    place.evovlm("evolve", place.recipe, "--out", "runs/whole", *FEW, "--checkpoint")
    return place.root / "runs" / "whole"


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(place: Place):
    said = place.evovlm("evolve", place.recipe, "--out", "runs/dry", *FEW, "--dry-run").stdout
    assert "would search 16 genes with cmaes: 6 trials of 6 custom-vqa items" in said
    assert not (place.root / "runs" / "dry").exists()


def test_every_held_out_row_is_there_and_in_the_report(place: Place, whole: Path):
    held_out = read_json(whole / "result.json")["held_out"]
    assert set(held_out["sources"]) == {"base", "vlm", "ja"}
    assert {"average", "plugged_in", "sweep", "interpolation", "shuffled_images"} <= set(held_out["controls"])
    cells = [held_out["evolved"], *held_out["sources"].values(), *held_out["controls"].values()]
    assert all(cell.get("items") == 6 and 0 <= cell["score"] <= 100 for cell in cells), held_out
    assert held_out["sources"]["vlm"]["score"] == 100  # the references are its answers
    assert len({row["score"] for row in logged_rows(whole)}) > 1
    (whole / "report.html").unlink()
    place.evovlm("report", "runs/whole")
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("unmerged language model plugged in", "evolved, images shuffled"))


@torch.inference_mode()
def test_the_checkpoint_answers_in_plain_transformers_as_it_is_evaluated(place: Place, whole: Path):
    folder = whole / "checkpoint"
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    processor = load_processor(folder)
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    said = {}
    for item in items("test"):
        assert item.image is not None
        text = SHORT["template"].replace("<image>", mark).format(question=item.question)
        inputs = processor(text=text, images=item.image(), return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=SHORT["max_new_tokens"], do_sample=False)
        said[item.id] = processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    judged = [row for row in files.read_rows(whole / study_log.HELD_OUT_ANSWERS) if row["model"] == "evolved"]
    assert len(judged) == 6
    assert {row["id"]: row["answer"] for row in judged}.items() <= said.items()
    assert len(set(said.values())) > COUNT // 2
    engine = Engine.load(folder)
    assert engine.lean is not None
    assert engine.answer(engine.prepare(items("test"), Generation(**SHORT), 4)) == list(said.values())
    words = ("--data", "custom-vqa@data/test.jsonl:test", "--preset", "greedy+recipes/short.yaml", "--json")
    rows_of = [json.loads(line) for line in (place.root / "data" / "test.jsonl").read_text("utf-8").splitlines()]
    expected = np.mean([rouge_l_ja(said[row["id"]], [row["reference"]]) for row in rows_of])
    for merged in ("runs/whole/checkpoint", "runs/whole/best.yaml"):
        assert json.loads(place.evovlm("evaluate", merged, *words).stdout)["score"] == pytest.approx(expected)


def test_checkpoint_and_recipe_ask_in_the_owner_s_chat_template_alike(place: Place, whole: Path):
    words = ("--data", "custom-vqa@data/test.jsonl:test", "--preset", "chat", "--json")
    scores = [json.loads(place.evovlm("evaluate", f"runs/whole/{merged}", *words).stdout)["score"]
              for merged in ("checkpoint", "best.yaml")]  # fmt: skip
    assert scores[0] == scores[1]
    assert "<|im_start|>assistant" in load_processor(whole / "checkpoint").chat_template


def test_a_search_killed_with_sigkill_ends_with_the_same_log_and_table(place: Place, whole: Path):
    out = place.root / "runs" / "killed"
    command = [sys.executable, "-P", "-m", "evovlm", "evolve", place.recipe, "--out", "runs/killed", *FEW]
    running = subprocess.Popen(command, cwd=place.root, stdout=subprocess.DEVNULL)
    log, deadline = out / study_log.TRIALS, time.monotonic() + 200
    while time.monotonic() < deadline and (not log.exists() or log.read_bytes().count(b"\n") < 2):
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert 2 <= log.read_bytes().count(b"\n") < 6
    place.evovlm("evolve", place.recipe, "--out", "runs/killed", *FEW)
    assert logged_rows(out) == logged_rows(whole)
    results = [read_json(folder / study_log.RESULT) for folder in (out, whole)]
    assert all(results[0][name] == results[1][name] for name in ("held_out", "selection", "digest"))


def test_a_race_drops_candidates_and_ends(place: Place):
    raced = ("--trials", "12", "--items", "12", "--judged", "6", "--race")
    place.evovlm("evolve", place.recipe, "--out", "runs/raced", *raced)
    seen = [row["items"] for row in logged_rows(place.root / "runs" / "raced")]
    assert len(seen) == 12
    assert min(seen) < max(seen) == 12
    assert "evolved" in read_json(place.root / "runs" / "raced" / "result.json")["held_out"]


# Workers get a job and give answers, whatever the family.
@pytest.mark.parametrize("place", RECIPES[:1], indirect=True)
def test_two_workers_on_ray_find_the_same_scores(place: Place, whole: Path, address: str):
    place.evovlm("evolve", place.recipe, "--out", "runs/ray", *FEW, "--ray", address, "--workers", "2")
    ray = place.root / "runs" / "ray"
    # Candidates of one generation are logged in the order in which workers finish them.
    scores = [sorted((row["genome"], row["score"]) for row in logged_rows(folder)) for folder in (ray, whole)]
    assert scores[0] == scores[1]
    results = [read_json(folder / study_log.RESULT) for folder in (ray, whole)]
    assert results[0]["held_out"] == results[1]["held_out"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a Ray cluster with two cores."""
    pytest.importorskip("ray", reason="the extra evovlm[ray] is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 80 * 2**20})
    yield cluster.address
    cluster.shutdown()


def test_a_further_objective_gives_a_front_of_recipes_that_merge(place: Place):
    search = {"algorithm": "nsga2", "population": 4, "objectives": ["custom-vqa@../data/other.jsonl:search"]}
    refused = place.evovlm("evolve", place.changed("raced", search=search | {"race": True}), "--out", "x", code=2)
    assert "search.race: needs `algorithm: cmaes`" in refused.stderr
    recipe = place.changed("several", search=search)
    place.evovlm("evolve", recipe, "--out", "runs/several", *FEW)
    assert all(len(row["values"]) == 2 for row in logged_rows(place.root / "runs" / "several"))
    points = sorted((place.root / "runs" / "several" / "front").glob("*.yaml"))
    assert points
    place.evovlm("merge", str(points[0].relative_to(place.root)), "merged/point")


ROUTE = {"algorithm": "hybrid", "population": 4, "trials": 4, "items": 6,
         "route": {"repeats": 1, "ordered": True, "prefix": {"source": "ps1", "layers": 2}}}  # fmt: skip


def test_a_second_stage_searches_routes_or_says_why_it_cannot(place: Place):
    recipe = place.changed("both", then={"winners": 1, "search": ROUTE})
    words = ("evolve", recipe, "--out", "runs/both", *FEW)
    if place.name == "qwen3-vl-swallow":
        refused = place.evovlm(*words, code=2).stderr
        assert "rope_theta" in refused
        assert "Traceback" not in refused
        recipe = place.changed("both", then={"winners": 1, "keep": ["vlm"], "search": ROUTE})
    place.evovlm(*words, "--checkpoint")
    best = yaml.safe_load((place.root / "runs" / "both" / "best.yaml").read_text(encoding="utf-8"))
    assert [(step["source"], step["layer"]) for step in best["route"][:2]] == [("ps1", 0), ("ps1", 1)]
    words = ("--data", "custom-vqa@data/test.jsonl:test", "--preset", "greedy+recipes/short.yaml", "--items", "3")
    place.evovlm("evaluate", "runs/both/checkpoint", *words)
