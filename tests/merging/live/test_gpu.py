"""A candidate merged by the kernels is the one built to disk, wherever its sources lie, whatever came before it."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need Triton: pip install 'evovlm[gpu]'")

from evovlm.engines.hf import Engine
from evovlm.merging.assembly import Assembly, assemble, tower_tensor
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.merging.live.gpu import DeviceMerger
from evovlm.merging.live.placement import PLACES, Place, Placement
from evovlm.merging.tensor_jobs import Job
from evovlm.methods import METHODS, Method
from evovlm.methods._whole_tensor import WholeTensor
from evovlm.methods.kernels.launch import Shape
from evovlm.models.layouts import VOCABULARY_TENSORS
from evovlm.recipe.layer_groups import layer_of
from evovlm.recipe.schema import Recipe
from evovlm.system.errors import RecipeError
from evovlm.tasks import Generation, Item
from tests.methods.merging import as_many
from tests.parameters import slow_but

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
SHAPE = Shape(groups=1024, warps=4, repeats=1)
INVERSE = {"rescale": "inverse"}  # which needs no tables, so that the first candidate can be merged while it is read
# What other tests merge; and what a GPU rounds otherwise.
LEFT_OUT = {"passthrough", "dare_linear", "dare_ties"} | ({"arcee_fusion"} if ON_GPU else set())
CONTROL = {"ja": {"weight": 0.5}, "math": {"weight": 0.5}}


def names(assembly: Assembly) -> list[Job]:
    """What is merged: all; by the interpreter, which is slow, a layer alone."""
    return [job for job in assembly.jobs if ON_GPU or layer_of(job.name) == 0]


def recipe(paper: dict[str, Path], method: str, ja: float = 0.7, density: float = 0.6, **rest: Any) -> Recipe:
    parameters = {
        "ja": {"weight": {"layers 0-1": ja, "head": 0.3}, "density": density},
        "math": {"weight": 0.4, "density": density / 2},
    }
    content: dict[str, Any] = {
        "kind": "llm",
        "base": {"model": str(paper["base"])},
        "sources": [{"name": name, "model": str(paper[name])} for name in as_many(method, ("ja", "math"))],
        "owner": "ja",
        "method": method,
        "parameters": {name: parameters[name] for name in as_many(method, ("ja", "math"))},
        "groups": 1,
        "dtype": "float16",  # which Triton's interpreter rounds to as a GPU does
    }
    return Recipe.model_validate(content | rest)


def beyond(plan: Recipe, weight: Any) -> Recipe:
    """The recipe with a weight that no recipe may hold, so that merged weights overflow."""
    ja = plan.of("ja").model_copy(update={"weight": weight})
    return plan.model_copy(update={"parameters": {**plan.parameters, "ja": ja}})


def placed(*places: Place) -> Placement:
    labels = ("base", "ja", "math")
    every = places if len(places) == 3 else places * 3
    return Placement(dict(zip(labels, every, strict=True)), dict.fromkeys(labels, 0))


def on_device(plan: Recipe, placement: Placement, **rest: Any) -> tuple[DeviceMerger, dict[str, torch.nn.Parameter]]:
    assembly = assemble(plan, Path())
    tower = {job.name: torch.nn.Parameter(torch.full(job.shape, torch.nan, device=DEVICE)) for job in names(assembly)}
    return DeviceMerger(assembly, tower, placement, shape=SHAPE, **rest), tower


def on_cpu(plan: Recipe) -> dict[str, torch.nn.Parameter]:
    assembly = assemble(plan, Path())
    tower = {job.name: torch.nn.Parameter(torch.full(job.shape, torch.nan)) for job in names(assembly)}
    ResidentMerger(assembly, tower).merge(plan)
    return tower


def differing(found: dict[str, torch.nn.Parameter], expected: dict[str, torch.nn.Parameter]) -> list[str]:
    return [name for name, tensor in expected.items() if not torch.equal(found[name].data.cpu(), tensor.data)]


@pytest.mark.parametrize("places", slow_but([*((place,) for place in PLACES), ("gpu", "host", "disk")], {("gpu",)}))
def test_live_weights_are_the_cpus_wherever_sources_lie(paper: dict[str, Path], places: tuple[Place, ...]):
    options = {"rescale": "inverse"}  # which needs no tables
    plan = recipe(paper, "dare_ties", options=options)
    merger, tower = on_device(plan, placed(*places), part_elements=1)
    addresses = {name: parameter.data_ptr() for name, parameter in tower.items()}
    merger.merge(recipe(paper, "dare_ties", 0.1, 0.9, options=options))
    merger.merge(plan)
    assert differing(tower, on_cpu(plan)) == []
    assert {name: parameter.data_ptr() for name, parameter in tower.items()} == addresses


@pytest.mark.parametrize("method", slow_but(sorted(set(METHODS) - LEFT_OUT), {"ties", "slerp", "della", "sce"}))
def test_every_method_gives_the_cpus_weights(paper: dict[str, Path], method: str):
    plan = recipe(paper, method)
    merger, tower = on_device(plan, placed("gpu"))
    merger.merge(plan)
    assert differing(tower, on_cpu(plan)) == []


def at_hand(merger: DeviceMerger, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, no model's tensor may be read from its file."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a tensor is read again")

    monkeypatch.setattr(merger._store._reader, "source", refuse)
    monkeypatch.setattr(merger._store._reader, "wanted", refuse)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["gpu", "host"])
def test_every_method_follows_another_from_the_same_tensors(
    paper: dict[str, Path], place: Place, monkeypatch: pytest.MonkeyPatch
):
    searched = recipe(paper, "dare_ties", options=INVERSE)
    merger, tower = on_device(searched, placed(place))
    nbytes = merger.nbytes
    at_hand(merger, monkeypatch)
    assembly = assemble(searched, Path())
    expected = {job.name: torch.nn.Parameter(torch.full(job.shape, torch.nan)) for job in names(assembly)}
    reference = ResidentMerger(assembly, expected)
    for method in ("linear", "dare_ties", "slerp", "task_arithmetic", "model_stock", "della", "linear"):
        control = recipe(paper, method, parameters=CONTROL)
        merger.merge(control)
        reference.merge(control)
        assert differing(tower, expected) == [], method
    assert merger.nbytes == nbytes
    assert merger.bytes_of(recipe(paper, "linear")) < nbytes


def test_a_base_that_only_a_control_needs_is_loaded_once_and_told(paper: dict[str, Path]):
    told: list[str] = []
    merger, tower = on_device(recipe(paper, "linear"), placed("gpu"), tell=told.append)
    control = recipe(paper, "task_arithmetic", parameters=CONTROL)
    for _ in range(2):
        merger.merge(control)
        assert differing(tower, on_cpu(control)) == []
    assert [line.split(": base (")[0] for line in told] == ["loaded for task_arithmetic, once"]


def test_task_vectors_in_eight_bits_leave_a_linear_control_its_own_sources(paper: dict[str, Path]):
    told: list[str] = []
    merger, tower = on_device(recipe(paper, "task_arithmetic"), placed("gpu"), eight_bit=True, tell=told.append)
    control = recipe(paper, "linear", parameters=CONTROL)
    merger.merge(control)
    assert differing(tower, on_cpu(control)) == []
    assert told[0].startswith("loaded for linear, once: ja, math (")


@pytest.mark.parametrize("label", ["base", "math"])
def test_the_live_tower_becomes_an_unmerged_model(paper: dict[str, Path], label: str):
    assembly = assemble(recipe(paper, "dare_ties"), Path())
    tower = {job.name: torch.nn.Parameter(torch.full(job.shape, torch.nan, device=DEVICE)) for job in assembly.jobs}
    model = assembly.base if label == "base" else assembly.sources[label]
    DeviceMerger(assembly, tower, placed("gpu"), shape=SHAPE).become_model(label)
    for job in assembly.jobs:
        own = tower_tensor(model, job.name)
        if job.name in VOCABULARY_TENSORS and label == "math":  # whose rows are put into the output's order
            own = assembly.source_tensor(job, label, job.name, None)
        assert torch.equal(tower[job.name].data.cpu(), own.float()), job.name


def test_a_users_method_is_merged_one_tensor_at_a_time_and_told(paper: dict[str, Path], monkeypatch):
    def drawn(base: Any, sources: Any, options: Any) -> torch.Tensor:
        keep = [source.draws.take(0, base.numel()).view(base.shape) < 32768 for source in sources]
        return base + sum(each * (source.tensor - base) for each, source in zip(keep, sources, strict=True))

    monkeypatch.setitem(METHODS, "drawn", Method("drawn", WholeTensor("drawn", drawn)))
    told: list[str] = []
    plan = recipe(paper, "drawn")
    merger, tower = on_device(plan, placed("gpu"), tell=told.append)
    merger.merge(plan)
    assert differing(tower, on_cpu(plan)) == []
    assert told == ["merged on the GPU, one tensor at a time: drawn has no fused kernel"]


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_a_users_method_that_computes_with_numpy_is_merged_on_the_cpu_and_told(paper: dict[str, Path], monkeypatch):
    def halved(base: Any, sources: Any, options: Any) -> torch.Tensor:
        return torch.from_numpy(sources[0].tensor.numpy() / 2)

    monkeypatch.setitem(METHODS, "halved", Method("halved", WholeTensor("halved", halved)))
    told: list[str] = []
    plan = recipe(paper, "halved")
    merger, tower = on_device(plan, placed("gpu"), tell=told.append)
    merger.merge(plan)
    assert differing(tower, on_cpu(plan)) == []
    assert told[-1].startswith("merged on the CPU: halved does not compute on a GPU")


@pytest.mark.slow
@pytest.mark.parametrize("rescale", ["l1", "inverse"])
def test_breadcrumbs_and_della_scale_what_is_left(paper: dict[str, Path], rescale: str):
    for method in ("breadcrumbs", "della"):
        plan = recipe(paper, method, options={"rescale": rescale, "gamma": 0.2})
        merger, tower = on_device(plan, placed("gpu"))
        merger.merge(plan)
        assert differing(tower, on_cpu(plan)) == [], method


@pytest.mark.parametrize("density", [0.5, {"layers 0-1": 1.0, "head": 0.0}])
def test_della_divides_each_element_by_its_own_keep_probability(paper: dict[str, Path], density: Any):
    plan = recipe(paper, "della", options={"rescale": "per_element"})
    plan = plan.model_copy(
        update={
            "parameters": {
                name: one.model_copy(update={"density": density if name == "ja" else 0.6})
                for name, one in plan.parameters.items()
            }
        }
    )
    merger, tower = on_device(plan, placed("gpu"))
    merger.merge(plan)
    assert differing(tower, on_cpu(plan)) == []


@pytest.mark.slow
def test_another_seed_draws_other_masks(paper: dict[str, Path]):
    merger, tower = on_device(recipe(paper, "dare_linear"), placed("gpu"))
    merger.merge(recipe(paper, "dare_linear"))
    other = recipe(paper, "dare_linear", seed=1)
    merger.merge(other)
    assert differing(tower, on_cpu(other)) == []


@pytest.mark.slow
def test_task_vectors_in_eight_bits_tell_their_error(paper: dict[str, Path]):
    plan = recipe(paper, "task_arithmetic", dtype="float32")
    merger, tower = on_device(plan, placed("host"), eight_bit=True)
    merger.merge(plan)
    assert set(merger.errors) == {"ja", "math"}
    assert all(0.0 < error < 0.02 for error in merger.errors.values())
    whole, exact = on_device(plan, placed("gpu"))
    whole.merge(plan)
    assert whole.errors == {}
    assert merger.nbytes < whole.nbytes
    lost = sum(float((tower[name].data - exact[name].data).square().sum()) for name in tower) ** 0.5
    moved = sum(float(exact[name].data.square().sum()) for name in tower) ** 0.5
    assert 0 < lost / moved < 0.02


def test_weights_that_are_not_finite_are_an_error(paper: dict[str, Path]):
    merger, _ = on_device(recipe(paper, "task_arithmetic"), placed("gpu"))
    with pytest.raises(FloatingPointError, match=r"layers.0.*not finite"):
        merger.merge(beyond(recipe(paper, "task_arithmetic"), {"layers 0-1": 3e38, "head": 0.3}))


ITEMS = [Item(str(number), f"one two three {number}", ("x",), None) for number in range(16)]


def resident(plan: Recipe, place: Place, paper: dict[str, Path], **rest: Any) -> tuple[DeviceMerger, Engine]:
    """A live model whose tower (by the interpreter, a layer of it) is merged, while it is read where it is streamed."""
    engine = Engine.load(paper["ja"], device=DEVICE, dtype=torch.float32)
    assembly = assemble(plan, Path())
    tower = {job.name: engine.tower[job.name] for job in names(assembly)}
    rest = {"shape": SHAPE, "part_elements": 1} | rest
    return DeviceMerger(assembly, tower, placed(place), pending=engine.pending, **rest), engine


@pytest.mark.parametrize("beams", slow_but([1, 2], {1}))
def test_answers_are_the_same_while_the_last_layers_are_still_merged(paper: dict[str, Path], beams: int):
    plan = recipe(paper, "dare_ties", options=INVERSE)
    merger, engine = resident(plan, "gpu", paper)
    streamed, reader = resident(plan, "host", paper)
    assert not merger.while_read
    assert streamed.while_read
    said: list[list[str]] = []
    for weight in (0.1, 3.0):
        candidate = recipe(paper, "dare_ties", weight, options=INVERSE)
        merger.merge(candidate)
        streamed.merge(candidate)
        generation = Generation("{question}", max_new_tokens=4, num_beams=beams)
        said += [one.answer(one.prepare(ITEMS, generation, 16)) for one in (engine, reader)]
    assert said[0] == said[1]
    assert said[2] == said[3]
    assert said[0] != said[2]


def test_what_is_streamed_is_merged_by_whoever_reads(paper: dict[str, Path]):
    plan = recipe(paper, "task_arithmetic")
    merger, engine = resident(plan, "host", paper)
    kept = {name: parameter.data.clone() for name, parameter in engine.tower.items()}
    expected = on_cpu(plan)
    merger.merge(plan)
    assert all(torch.equal(engine.tower[name].data, kept[name]) for name in expected)
    engine.answer(engine.prepare(ITEMS, Generation("{question}", max_new_tokens=1), 16))
    assert differing(engine.tower, expected) == []


@pytest.mark.slow
def test_a_candidate_that_nobody_read_leaves_nothing_behind(paper: dict[str, Path]):
    plan, other = recipe(paper, "task_arithmetic"), recipe(paper, "task_arithmetic", 0.1)
    merger, engine = resident(plan, "host", paper)
    merger.merge(other)
    engine.pending.need(0)
    merger.merge(plan)
    engine.pending.finish()
    assert differing(engine.tower, on_cpu(plan)) == []


@pytest.mark.parametrize("beams", [1, 2])
def test_a_reader_of_what_is_streamed_hears_of_its_faults(paper: dict[str, Path], beams: int):
    merger, engine = resident(recipe(paper, "task_arithmetic"), "host", paper)
    prepared = engine.prepare(ITEMS, Generation("{question}", max_new_tokens=1, num_beams=beams), 16)
    merger.merge(beyond(recipe(paper, "task_arithmetic"), {"layers 0-1": 3e38, "head": 0.3}))
    with pytest.raises(FloatingPointError, match=r"layers.0.*not finite"):
        engine.answer(prepared)
    merger.merge(recipe(paper, "task_arithmetic"))
    engine.answer(prepared)


@pytest.mark.slow
def test_tables_are_made_before_anything_is_read(paper: dict[str, Path]):
    plan = recipe(paper, "dare_ties")
    merger, engine = resident(plan, "host", paper)
    merger.merge(plan)
    assert not engine.pending.drop(), "the first candidate makes the tables, so it is whole"
    assert differing(engine.tower, on_cpu(plan)) == []
    again = recipe(paper, "dare_ties", 0.1, 0.8)
    merger.merge(again)
    assert differing(engine.tower, on_cpu(plan)) == [], "the second one is merged by its reader"
    engine.pending.finish()
    assert differing(engine.tower, on_cpu(again)) == []


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("place", ["gpu", "host"])
def test_candidates_are_merged_and_answered_on_another_gpu_than_the_current(paper: dict[str, Path], place: Place):
    plan = recipe(paper, "dare_ties")
    engine = Engine.load(paper["ja"], device="cuda:1", dtype=torch.float32)
    merger = DeviceMerger(assemble(plan, Path()), engine.tower, placed(place), part_elements=1, pending=engine.pending)
    prepared = engine.prepare(ITEMS, Generation("{question}", max_new_tokens=8), 16)
    merger.merge(recipe(paper, "dare_ties", 0.1))
    said = engine.answer(prepared)
    merger.merge(plan)
    assert engine.answer(prepared) != said
    assert differing(engine.tower, on_cpu(plan)) == []


def test_a_method_that_does_not_take_the_models_is_refused(paper: dict[str, Path]):
    merger, _ = on_device(recipe(paper, "dare_ties"), placed("gpu"))
    with pytest.raises(RecipeError, match="passthrough takes"):
        merger.merge(recipe(paper, "dare_ties").model_copy(update={"method": "passthrough"}))
