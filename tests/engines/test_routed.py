"""Routes through real layers: each pass has its own slot of the cache, and no weight is there twice."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from evovlm.engines.hf import Engine
from evovlm.engines.routed import RoutedEngine, lay_route
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.models.zoo_models import zoo_folder
from evovlm.recipe.route import Route, Step, identity
from evovlm.recipe.schema import Recipe
from evovlm.tasks import Generation, load_task
from tests.hub_layouts import Family, save_llm

FLOAT = torch.float32
# Layers come back, in other models and other orders, with scales.
WINDING: Route = (
    *identity("ja", 4),
    Step(source="math", layer=3, scale=0.9),
    Step(source="ja", layer=3, scale=1.1),
    Step(source="ja", layer=3),
    Step(source="ja", layer=2, scale=-0.8),
    Step(source="math", layer=6, scale=-1.2),
    Step(source="math", layer=7),
)


def folders(*names: str) -> dict[str, Path]:
    return {name: zoo_folder(name) for name in names}


@pytest.fixture(scope="module")
def llm() -> RoutedEngine:
    return RoutedEngine.load_pool("ja", folders("ja", "math"), dtype=FLOAT)


@pytest.fixture(scope="module")
def vlm() -> RoutedEngine:
    return RoutedEngine.load_pool("vlm", folders("vlm", "ja", "math"), dtype=FLOAT)


def some_tokens(engine: Engine, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 600, (3, 17), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def logits(engine: Engine, tokens: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = engine.model(tokens).logits
    return found


@torch.inference_mode()
def without_cache(engine: Engine, ids: torch.Tensor, steps: int) -> list[int]:
    """Greedy tokens of one prompt, the whole text read anew for each."""
    made: list[int] = []
    for _ in range(steps):
        whole = torch.cat([ids, torch.tensor(made, dtype=torch.int64)])[None]
        chosen = int(engine.model(whole, use_cache=False).logits[0, -1].argmax())
        made.append(chosen)
        if chosen in engine._ends.tolist():
            break
    return made


def test_the_identity_route_gives_the_sources_logits_exactly(llm: RoutedEngine):
    tokens = some_tokens(llm.engine)
    plain = Engine.load(zoo_folder("ja"), dtype=FLOAT)
    llm.follow(identity("ja", 8))
    assert torch.equal(logits(llm.engine, tokens), logits(plain, tokens))


def test_the_identity_route_of_a_vlms_tower_answers_as_the_vlm(vlm: RoutedEngine):
    task = load_task("zoo-vqa")
    items = task.items("search", 10, 0)
    plain = Engine.load(zoo_folder("vlm"), dtype=FLOAT)
    vlm.follow(identity("vlm", 8))
    expected = plain.answer(plain.prepare(items, task.generation, 4))
    assert vlm.engine.answer(vlm.engine.prepare(items, task.generation, 4)) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", ["llm", "vlm"])
def test_answers_with_cache_are_those_without_in_padded_batches(name: str, request: pytest.FixtureRequest):
    routed: RoutedEngine = request.getfixturevalue(name)
    engine = routed.engine
    route = WINDING if name == "llm" else (*identity("vlm", 5), *WINDING[4:])
    routed.follow(route)
    generation = Generation("{question}", max_new_tokens=10)
    items = load_task("zoo-maths").items("search", 7, 0)
    assert len({len(item.question) for item in items}) > 1, "nothing would be padded"
    prepared = engine.prepare(items, generation, 4)
    expected = [without_cache(engine, prompt.ids, 10) for prompt in prepared.prompts]
    texts = [engine.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in expected]
    assert engine.answer(prepared) == texts


def windowed(folder: Path, family: Family, window: dict[str, Any]) -> tuple[RoutedEngine, dict[str, Path]]:
    """Routes through two random models of a family whose attention sees six tokens in some layers or in all."""
    shape: dict[str, Any] = {"num_hidden_layers": 3, "sliding_window": 6, "initializer_range": 0.3, **window}
    made = {
        name: save_llm(folder / name, family=family, seed=seed, dtype=FLOAT, **shape)
        for seed, name in enumerate(("a", "b"))
    }
    return RoutedEngine.load_pool("a", made, dtype=FLOAT), made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "window"),
    [("mistral", {}), ("qwen2", {"use_sliding_window": True, "max_window_layers": 1})],
    ids=["every layer slides", "two layers of three slide"],
)
def test_each_step_attends_as_its_layer_does_in_its_source(family: Family, window: dict[str, Any], tmp_path: Path):
    routed, made = windowed(tmp_path, family, window)
    engine = routed.engine
    tokens = torch.randint(5, 2000, (2, 21), generator=torch.Generator().manual_seed(0))
    routed.follow(identity("a", 3))
    assert torch.equal(logits(engine, tokens), logits(Engine.load(made["a"], dtype=FLOAT), tokens))
    route = (*identity("b", 2), Step(source="b", layer=1, scale=-0.9), Step(source="a", layer=0), *identity("a", 3)[1:])
    routed.follow(route)
    generation = Generation("{question} and again {question}", max_new_tokens=9)
    prepared = engine.prepare(load_task("zoo-maths").items("search", 3, 0), generation, 2)
    expected = [without_cache(engine, prompt.ids, 9) for prompt in prepared.prompts]
    texts = [engine.tokenizer.decode(found, skip_special_tokens=True).strip() for found in expected]
    assert all(len(prompt.ids) > 6 for prompt in prepared.prompts), "the window would hide nothing"
    assert engine.answer(prepared) == texts
    recipe = {
        "kind": "llm",
        "sources": [{"name": name, "model": str(place)} for name, place in made.items()],
        "owner": "a",
        "method": "passthrough",
        "dtype": "float32",
        "route": [step.model_dump() for step in route],
    }
    report = build_checkpoint(assemble(Recipe.model_validate(recipe), Path()), tmp_path / "out")
    plain = logits(Engine.load(report.folder, dtype=FLOAT), tokens)
    assert (plain - logits(engine, tokens)).abs().max() < 1e-4 * plain.std()


def test_beams_over_a_route_are_those_of_generate_without_a_cache(llm: RoutedEngine):
    llm.follow(WINDING)
    generation = Generation("{question}", max_new_tokens=8, num_beams=3, repetition_penalty=1.2)
    prepared = llm.engine.prepare(load_task("zoo-maths").items("search", 2, 0), generation, 1)
    for prompt, answer in zip(prepared.prompts, llm.engine.answer(prepared), strict=True):
        more: dict[str, Any] = {"num_beams": 3, "repetition_penalty": 1.2, "do_sample": False, "use_cache": False}
        mask = torch.ones_like(prompt.ids)[None]
        made = llm.engine.model.generate(prompt.ids[None], attention_mask=mask, max_new_tokens=8, **more)[
            0, len(prompt.ids) :
        ]
        assert answer == llm.engine.tokenizer.decode(made, skip_special_tokens=True).strip()


def test_each_use_of_a_layer_has_a_slot_of_its_own(llm: RoutedEngine):
    llm.follow(WINDING)
    cache = DynamicCache(config=llm.engine.decoder.config)
    with torch.inference_mode():
        llm.engine.model(some_tokens(llm.engine), past_key_values=cache)
    assert len(cache.layers) == len(WINDING)
    third, again = cache.layers[3].keys, cache.layers[5].keys  # both are layer 3 of `ja`
    assert third is not None
    assert again is not None
    assert third.shape == again.shape
    assert not torch.equal(third, again)


def test_no_layer_is_copied_whatever_the_routes_length(llm: RoutedEngine):
    llm.follow(identity("ja", 8))
    one = sum(parameter.numel() for parameter in llm.engine.model.parameters())
    llm.follow(identity("ja", 8) * 20)
    assert sum(parameter.numel() for parameter in llm.engine.model.parameters()) == one
    steps = llm.engine.decoder.layers
    assert steps[0].layer.mlp.up_proj.weight is steps[8].layer.mlp.up_proj.weight
    assert steps[0].layer.self_attn.q_proj.weight is llm.pool["ja", 0].self_attn.q_proj.weight  # type: ignore[union-attr]
    assert steps[8].layer.self_attn.layer_idx == 8
    assert llm.pool["ja", 0].self_attn.layer_idx == 0  # type: ignore[union-attr]


def test_a_scale_changes_the_logits(llm: RoutedEngine):
    tokens = some_tokens(llm.engine)
    llm.follow(identity("ja", 8))
    plain = logits(llm.engine, tokens)
    llm.follow([step.model_copy(update={"scale": 0.5}) if step.layer == 4 else step for step in identity("ja", 8)])
    assert (logits(llm.engine, tokens) - plain).abs().max() > 0.1


def test_what_a_route_shares_with_the_last_is_recalled_and_changes_no_answer(llm: RoutedEngine):
    assert llm.memory is not None
    task = load_task("zoo-maths")
    prepared = llm.engine.prepare(task.items("search", 9, 0), task.generation, 5)  # two batches
    other = (*WINDING[:6], Step(source="ja", layer=7))
    forgetful = RoutedEngine.load_pool("ja", folders("ja", "math"), dtype=FLOAT, remember=False)
    for route, shared in ((WINDING, 0), (other, 6), (WINDING, 6), (WINDING, len(WINDING))):
        llm.memory.reused = 0 if route is not WINDING else llm.memory.reused
        before = llm.memory.reused
        llm.follow(route)
        forgetful.follow(route)
        assert llm.engine.answer(prepared) == forgetful.engine.answer(prepared)
        assert llm.memory.reused - before == 2 * shared


def test_a_cache_without_a_slot_for_a_step_is_refused_with_the_steps_number(llm: RoutedEngine):
    llm.follow(identity("ja", 8))
    short = DynamicCache(config=llm.engine.decoder.config)
    llm.follow(WINDING)
    with pytest.raises(ValueError, match=r"step 8: the cache has 8 slots"):
        llm.engine.model(some_tokens(llm.engine), past_key_values=short)


def test_an_empty_route_and_an_unknown_layer_are_refused_with_the_steps_number(llm: RoutedEngine):
    with pytest.raises(ValueError, match="step 0 is missing"):
        lay_route(llm.engine.decoder, llm.pool, ())
    with pytest.raises(ValueError, match=r"step 1: no layer 99 of 'ja'"):
        lay_route(llm.engine.decoder, llm.pool, (Step(source="ja", layer=0), Step(source="ja", layer=99)))
