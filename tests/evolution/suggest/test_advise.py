"""Sources ranked on the zoo with decoys beside them, and task vectors compared by hand."""

import shutil
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evovlm.evaluators.evaluation import Evaluation
from evovlm.evolution.suggest._merge_search import MergeSearch
from evovlm.evolution.suggest._spectra import Spectra, prominence, spectra
from evovlm.evolution.suggest.advise import Advice, Ranking, suggest
from evovlm.evolution.suggest.kinship import Kinship, draw_kinship, kinship
from evovlm.merging.assembly import assemble
from evovlm.models.zoo_models import zoo_folder
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from evovlm.system.progress import Quiet
from evovlm.tasks import Item

CPU = torch.device("cpu")


def decoy(folder: Path, share: float, noise: float, seed: int) -> Path:
    """The base, a share of the maths model's task vector, and noise as long as `noise` times that vector."""
    shutil.copytree(zoo_folder("base"), folder)
    base, math = (load_file(zoo_folder(name) / "model.safetensors") for name in ("base", "math"))
    generator = torch.Generator().manual_seed(seed)
    mixed = {}
    for name, tensor in base.items():
        delta = math[name].float() - tensor.float()
        random = torch.randn(tensor.shape, generator=generator)
        random *= noise * delta.norm() / random.norm()
        mixed[name] = (tensor.float() + share * delta + random).to(tensor.dtype)
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def decoys(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("decoys")
    return [str(decoy(root / "noisy-copy", 1.0, 1.0, 0)), str(decoy(root / "unrelated", 0.0, 1.0, 1))]


class Steps:
    """A watch that keeps each phase's total and the texts of its steps."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.texts: dict[str, list[str]] = {}

    def phase(self, name: str, total: int) -> None:
        self.totals[name], self.texts[name] = total, []

    def step(self, text: str, **figures: float | None) -> None:
        list(self.texts.values())[-1].append(text)


@pytest.fixture(scope="module")
def advised(decoys: list[str]) -> tuple[Advice, Steps]:
    steps = Steps()
    advice = suggest(
        "zoo:base",
        [*decoys, "zoo:math", "zoo:ja"],
        "zoo-maths:search",
        items=24,
        seed=0,
        root=Path(),
        device="cpu",
        watch=steps,
    )
    return advice, steps


@pytest.mark.slow
def test_useful_sources_come_before_decoys(advised: tuple[Advice, Steps]):
    advice, _ = advised
    assert {one.source for one in advice.ranking[:2]} == {"ja", "math"}


def test_each_tensor_is_told_twice_and_each_merge_once(advised: tuple[Advice, Steps]):
    _, steps = advised
    vectors, merges = steps.texts["task vectors"], steps.texts["merges"]
    assert len(vectors) == steps.totals["task vectors"]
    assert vectors[: len(vectors) // 2] == vectors[len(vectors) // 2 :]
    assert merges[0] == "base"
    assert len(set(merges)) <= len(merges) <= steps.totals["merges"]


def test_decoys_are_told_for_what_they_are(advised: tuple[Advice, Steps]):
    advice, _ = advised
    ranking = {one.source: one for one in advice.ranking}
    assert ranking["unrelated"].reason.startswith("its task vector looks like noise")
    assert ranking["noisy-copy"].reason.startswith("a copy of math (cosine 0.7")
    assert "noise" not in ranking["math"].reason + ranking["ja"].reason
    assert ranking["unrelated"].prominence < 1.1 < 1.3 < ranking["ja"].prominence
    assert advice.answers < 24 / 2 * 80, "decoys that are told by their task vectors take no small searches"


def test_a_copy_of_a_copy_is_the_originals_and_twins_count_as_the_earlier(decoys: list[str], tmp_path: Path):
    again = decoy(tmp_path / "half", 0.5, 0.0, 3)
    models = {"math": "zoo:math", "noisy": decoys[0], "half": str(again), "twin": "zoo:math"}
    content = {
        "kind": "llm",
        "base": {"model": "zoo:base"},
        "sources": [{"name": name, "model": model} for name, model in models.items()],
        "method": "task_arithmetic",
    }
    found = spectra(assemble(Recipe.model_validate(content), Path()), combinations(models, 2), CPU, print)
    assert {name: found.original(name) for name in models} == {
        "math": None,
        "noisy": "math",
        "half": "math",
        "twin": "math",
    }


def test_prominence_is_one_for_noise_and_large_for_few_directions():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(120, 90, generator=generator)
    assert prominence(noise) == pytest.approx(1.0, abs=0.06)
    assert prominence(3.7 * noise) == pytest.approx(prominence(noise))
    few = torch.randn(120, 2, generator=generator) @ torch.randn(2, 90, generator=generator)
    assert prominence(few) > 3
    assert prominence(torch.zeros(40, 40)) == 0
    # One direction alone: the singular value is the length, so the ratio is sqrt(rows columns) / (their roots' sum).
    assert prominence(torch.ones(64, 64)) == pytest.approx(64 / 16, rel=1e-4)


class Harmful:
    """An evaluator whose sources help by 10 points a group, but for `math`'s head, which ruins everything."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def prepare(self, items: Sequence[Item]) -> None: ...

    def evaluate(self, recipe: Recipe, items: Sequence[Item]) -> Evaluation:
        self.asked.append(len(items))
        weights = {name: recipe.of(name).weight for name in recipe.source_names}
        gain = sum(10.0 * (value > 0) for own in weights.values() for value in own.values())  # type: ignore[union-attr]
        score = 0.0 if weights["math"]["head"] > 0 else 20.0 + gain  # type: ignore[index]
        return Evaluation((score,) * len(items), (False,) * len(items), ("x",) * len(items))


def test_a_small_search_leaves_out_the_layers_that_do_harm():
    content = {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "math", "model": "org/math"}, {"name": "ja", "model": "org/ja"}],
        "method": "task_arithmetic",
        "groups": 2,
    }
    items = [Item(str(number), "q", ("a",), None) for number in range(7)]
    evaluator = Harmful()
    search = MergeSearch(evaluator, Recipe.model_validate(content), items, 4, lambda text: None)  # type: ignore[arg-type]
    assert search.base.score == 20
    assert search.of([], "math", small=False).score == 0
    assert search.of([], "math", small=True).score == 50
    assert search.left_out(["math"], "math") == ("head",)
    assert search.of(["math"], "ja", small=True).score == 90
    assert search.left_out(["math", "ja"], "ja") == ()
    assert search.of(["math"], "ja", small=True).score == 90
    assert search.answers == sum(evaluator.asked)
    # What decides and what judges are different items: 4 and 3 of the 7.
    assert sorted(set(evaluator.asked)) == [3, 4]


class Saturated(Harmful):
    """An evaluator that `strong` all but satisfies: `weak` adds nothing to it, `chance` one answer of many."""

    def evaluate(self, recipe: Recipe, items: Sequence[Item]) -> Evaluation:
        there = {name for name in recipe.source_names if max(recipe.of(name).weight.values()) > 0}  # type: ignore[union-attr]
        right = 0.9 if "strong" in there else 0.4 if "weak" in there else 0.0
        right = round(right * len(items)) + ("chance" in there)
        scores = (100.0,) * right + (0.0,) * (len(items) - right)
        return Evaluation(scores, (False,) * len(items), ("x",) * len(items))


def test_where_the_items_cannot_part_two_sources_the_better_one_alone_comes_first():
    names = ("chance", "weak", "strong")
    content = {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": name, "model": f"org/{name}"} for name in names],
        "method": "task_arithmetic",
        "groups": 2,
    }
    items = [Item(str(number), "q", ("a",), None) for number in range(40)]
    search = MergeSearch(Saturated(), Recipe.model_validate(content), items, 4, lambda text: None)  # type: ignore[arg-type]
    pairs = dict.fromkeys(combinations(names, 2), 0.0)
    kin = Kinship(dict.fromkeys(names, 1.0), pairs, pairs, {})
    ranking = Ranking(search, kin, Spectra(dict.fromkeys(names, 2.0), {}), seed=0).ranked(names)
    assert [one.source for one in ranking] == ["strong", "weak", "chance"]
    assert ranking[1].together < search.of(["strong"], "chance", small=True).score


def test_one_judging_item_is_enough_to_rank():
    """With two items one decides and one judges; its standard error is not known."""
    content = {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": name, "model": f"org/{name}"} for name in ("ja", "math")],
        "method": "task_arithmetic",
        "groups": 2,
    }
    items = [Item(str(number), "q", ("a",), None) for number in range(2)]
    search = MergeSearch(Harmful(), Recipe.model_validate(content), items, 4, lambda text: None)  # type: ignore[arg-type]
    kin = Kinship(dict.fromkeys(("ja", "math"), 1.0), {("ja", "math"): 0.0}, {("ja", "math"): 0.0}, {})
    ranking = Ranking(search, kin, Spectra(dict.fromkeys(("ja", "math"), 2.0), {}), seed=0).ranked(("ja", "math"))
    assert {one.source for one in ranking} == {"ja", "math"}


def test_task_vectors_by_hand(decoys: list[str]):
    content = {
        "kind": "llm",
        "base": {"model": "zoo:base"},
        "sources": [
            {"name": "math", "model": "zoo:math"},
            {"name": "same", "model": "zoo:math"},
            {"name": "noisy", "model": decoys[0]},
            {"name": "random", "model": decoys[1]},
        ],
        "method": "task_arithmetic",
    }
    found = kinship(assemble(Recipe.model_validate(content), Path()), CPU, print)
    assert found.cosines["math", "same"] == pytest.approx(1)
    assert found.conflicts["math", "same"] == 0
    # A vector plus noise of its own length lies at 45 degrees to it.
    assert found.cosines["math", "noisy"] == pytest.approx(0.5**0.5, abs=0.03)
    assert found.cosines["math", "random"] == pytest.approx(0, abs=0.03)
    assert found.conflicts["math", "random"] == pytest.approx(0.5, abs=0.03)
    assert found.norms["noisy"] == pytest.approx(2**0.5 * found.norms["math"], rel=0.05)
    layers = found.by_layer["math", "noisy"]
    assert set(layers) == {-1, *range(8)}
    picture = draw_kinship(found)
    assert picture.count("<rect") == 1 + 6 * 9
    assert "math · noisy" in picture


def test_too_little_to_choose_from_and_test_sets_are_refused():
    with pytest.raises(RecipeError, match="two or more models"):
        suggest("zoo:base", ["zoo:ja"], "zoo-maths:search", items=4, seed=0, root=Path(), device="cpu", watch=Quiet())
    with pytest.raises(RecipeError, match="a test set"):
        suggest("zoo:base", ["zoo:ja"], "zoo-maths:test", items=4, seed=0, root=Path(), device="cpu", watch=Quiet())


def test_any_folder_name_can_be_ranked_and_one_item_is_too_few(tmp_path: Path):
    for name in ("my model", "数学"):
        shutil.copytree(zoo_folder("math" if name == "数学" else "ja"), tmp_path / name)
    models = [str(tmp_path / "my model"), str(tmp_path / "数学")]
    told: dict[str, Any] = {"seed": 0, "root": Path(), "device": "cpu", "watch": Quiet()}
    advice = suggest("zoo:base", models, "zoo-maths:search", items=2, **told)
    assert {one.source for one in advice.ranking} == {"my-model", "model"}
    (tmp_path / "one.jsonl").write_text('{"question": "1 + 1?", "reference": "2"}\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="has one item; give two or more"):
        suggest("zoo:base", models, f"custom-maths@{tmp_path}/one.jsonl:search", items=2, **told)
    with pytest.raises(RecipeError, match="257 models are too many to rank; give at most 256"):
        suggest("zoo:base", ["zoo:ja"] * 257, "zoo-maths:search", items=2, **told)
