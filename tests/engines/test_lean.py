"""The lean path: what is shared is read once, rows leave and are replaced, and no answer changes by it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from evovlm.engines import _memory
from evovlm.engines import _plain_runner as plain_runner
from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prepared
from evovlm.recipe.layer_groups import layer_of
from evovlm.tasks import Generation, Item
from tests.hub_layouts import save_llm, save_vlm

ASK = Generation("one two <image>\n{question} three", max_new_tokens=10)
TALK = Generation("{question}", max_new_tokens=10)
WORDS = ["a", "what is this", "how many red things are there", "one two three four five six seven"]
COLOURS = ["red", "blue", "green"]


def about_pictures(each: int, pictures: int = 3) -> list[Item]:
    """`each` questions about each of some pictures, the pictures taking turns."""
    return [
        Item(f"{picture}-{number}", f"{WORDS[number % len(WORDS)]} {number}", ("x",), lambda p=picture: paint(p))
        for number in range(each)
        for picture in range(pictures)
    ]


def paint(picture: int) -> Image.Image:
    return Image.new("RGB", (40 + 20 * picture, 40), COLOURS[picture])


def bare(count: int, words: str = "") -> list[Item]:
    return [Item(str(n), f"{words}{WORDS[n % len(WORDS)]} {n}", ("x",), None) for n in range(count)]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_vlm(tmp_path_factory.mktemp("vlm") / "vlm"), dtype=torch.float32)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_llm(tmp_path_factory.mktemp("llm") / "llm"), dtype=torch.float32)


def of_generate(engine: Engine, prepared: Prepared) -> list[str]:
    """What `generate` says to each prompt alone, its features scattered by the engine's other path."""
    lean, engine.lean = engine.lean, None
    try:
        return engine.answer(
            Prepared(prepared.prompts, prepared.generation, [[n] for n in range(len(prepared.prompts))])
        )
    finally:
        engine.lean = lean


def lengths_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each prefill reads."""
    read: list[int] = []
    prefill = plain_runner.prefill

    def counted(tower: Any, ops: Any, hidden: Tensor, *rest: Any) -> None:
        read.append(len(hidden))
        prefill(tower, ops, hidden, *rest)

    monkeypatch.setattr(plain_runner, "prefill", counted)
    return read


def test_a_pictures_tokens_are_read_once_for_all_its_questions(vlm: Engine, monkeypatch: pytest.MonkeyPatch):
    read = lengths_read(monkeypatch)
    prepared = vlm.prepare(about_pictures(4), ASK, 12)
    answers = vlm.answer(prepared)
    shared = {
        id(prompt.features): prompt.ids.tolist().index(2000) + len(prompt.features) for prompt in prepared.prompts
    }  # type: ignore[arg-type]
    own = sum(len(prompt.ids) - 1 - shared[id(prompt.features)] for prompt in prepared.prompts)
    # "\n" and the first letters of a question may be shared too.
    assert sum(read) <= sum(shared.values()) + own
    assert sum(read) < 0.6 * sum(len(prompt.ids) for prompt in prepared.prompts)
    assert answers == of_generate(vlm, prepared)
    assert len(set(answers)) > 6


def test_a_question_before_its_picture_is_answered_alike(vlm: Engine):
    prepared = vlm.prepare(about_pictures(3), replace(ASK, template="{question} <image>\nthree"), 9)
    assert vlm.answer(prepared) == of_generate(vlm, prepared)


def test_a_prompt_that_ends_with_its_picture_takes_the_other_path(vlm: Engine):
    prepared = vlm.prepare(about_pictures(2), replace(ASK, template="{question} <image>"), 6)
    assert vlm.lean is not None
    assert not vlm.lean.serves(prepared)
    assert vlm.answer(prepared) == of_generate(vlm, prepared)


def test_texts_share_a_long_beginning_and_no_short_one(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    read = lengths_read(monkeypatch)
    asked = bare(8, "one two three four five six seven eight nine ten eleven twelve thirteen fourteen " * 3)
    long = llm.prepare(asked, TALK, 8)
    assert llm.answer(long) == of_generate(llm, long)
    assert sum(read) < 0.6 * sum(len(prompt.ids) for prompt in long.prompts)
    read.clear()
    short = llm.prepare(bare(8), TALK, 8)
    assert llm.answer(short) == of_generate(llm, short)
    assert sum(read) == sum(len(prompt.ids) - 1 for prompt in short.prompts)


def test_prompts_of_one_token_are_answered(llm: Engine):
    """As a tokenizer leaves of words that it does not know: nothing but the token for the beginning."""
    prompts = [replace(prompt, ids=prompt.ids[:1]) for prompt in llm.prepare(bare(3), TALK, 3).prompts]
    prepared = Prepared(prompts, TALK, [[0, 1, 2]])
    assert llm.answer(prepared) == of_generate(llm, prepared)


def test_waiting_prompts_take_the_place_of_finished_ones(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    """Ends are tokens that the model likes to say, so that rows end at different steps."""
    assert llm.lean is not None
    prepared = llm.prepare(bare(12), replace(TALK, max_new_tokens=16), 4)

    def generated(**more: Any) -> list[list[int]]:
        asked = [prompt.ids[None] for prompt in prepared.prompts]
        made = [llm.model.generate(ids, max_new_tokens=16, do_sample=False, **more)[0] for ids in asked]
        return [row[ids.shape[1] :].tolist() for row, ids in zip(made, asked, strict=True)]

    ends = sorted({row[-2 - 3 * (index % 5)] for index, row in enumerate(generated())})
    monkeypatch.setattr(llm.lean, "_ends", frozenset(ends))
    answers = llm.answer(prepared)
    expected = generated(eos_token_id=ends)
    assert answers == [llm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in expected]
    lengths = [len(row) for row in expected]
    assert len(set(lengths)) > 3
    # Waves of four would take as many steps as the longest of each.
    plan = sorted(range(12), key=lambda index: (-len(prepared.prompts[index].ids), index))
    waves = [max(lengths[index] for index in plan[start : start + 4]) for start in (0, 4, 8)]
    assert llm.lean.spent.steps < sum(waves)


def test_the_next_candidate_uses_the_same_cache_and_plan(vlm: Engine):
    prepared = vlm.prepare(about_pictures(2), ASK, 4)
    assert vlm.lean is not None
    first = vlm.answer(prepared)
    runner, plan = vlm.lean._runner, prepared.plan
    assert vlm.answer(prepared) == first
    assert vlm.lean._runner is runner
    assert prepared.plan is plan


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: 9 bytes")],
)
def test_rows_that_do_not_fit_are_halved_and_told(llm: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception):
    asked = bare(10)
    prepared = llm.prepare(asked, TALK, 10)
    expected = llm.answer(prepared)
    fill = plain_runner.PlainRunner.fill

    def small(self: plain_runner.PlainRunner, hidden: Tensor, chunk: Any) -> None:
        if self.slots > 3:
            raise error
        fill(self, hidden, chunk)

    monkeypatch.setattr(plain_runner.PlainRunner, "fill", small)
    prepared = llm.prepare(asked, TALK, 10)
    heard: list[int] = []
    assert llm.answer(prepared, heard.append) == expected
    assert prepared.halved == [10, 5]
    assert sum(heard) == 10
    # The next candidate starts from the plan that fitted.
    assert llm.answer(prepared) == expected
    assert prepared.halved == [10, 5]


def test_a_row_that_does_not_fit_alone_is_an_error(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    def never(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(plain_runner.PlainRunner, "fill", never)
    with pytest.raises(torch.OutOfMemoryError):
        llm.answer(llm.prepare(bare(3), TALK, 3))


def test_other_errors_are_not_taken_for_want_of_memory(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(plain_runner.PlainRunner, "fill", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        llm.answer(llm.prepare(bare(2), TALK, 2))


def test_rows_end_where_every_answer_has_stopped(llm: Engine):
    asked, long = bare(5), replace(TALK, max_new_tokens=64)
    whole = llm.answer(llm.prepare(asked, long, 5))
    stops = tuple({text[2] for text in whole if len(text) > 2})
    cut = llm.answer(llm.prepare(asked, replace(long, stop=stops), 5))
    assert llm.lean is not None
    assert llm.lean.spent.steps <= 32
    for before, after in zip(whole, cut, strict=True):
        assert after == before[: min((before.find(stop) for stop in stops if stop in before), default=None)].strip()


def test_texts_longer_than_the_window_take_the_other_path(tmp_path: Path):
    engine = Engine.load(save_llm(tmp_path / "llm", sliding_window=64), dtype=torch.float32)
    assert engine.lean is not None
    for words, serves in (("", True), ("one two three four five six seven " * 6, False)):
        prepared = engine.prepare(bare(4, words), TALK, 4)
        assert engine.lean.serves(prepared) is serves
        assert engine.answer(prepared) == of_generate(engine, prepared)


def test_the_live_parameters_keep_their_identity_and_lie_side_by_side(llm: Engine):
    assert llm.lean is not None
    layer = llm.model.model.layers[1]
    for part, whole in (
        (layer.self_attn.k_proj, llm.lean.tower.layers[1].qkv),
        (layer.mlp.up_proj, llm.lean.tower.layers[1].gate_up),
    ):
        assert part.weight.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    assert llm.tower["model.layers.1.mlp.up_proj.weight"] is layer.mlp.up_proj.weight
    # Another engine over the same model sees the same memory.
    again = Engine(llm.model, llm.processor, sees=False)
    assert again.lean is not None
    assert again.lean.tower.layers[1].qkv.data_ptr() == llm.lean.tower.layers[1].qkv.data_ptr()


def test_the_work_counted_is_that_of_hand(llm: Engine):
    """Two prompts of lengths a and b: a - 1 and b - 1 tokens read, and of the last layer keys and values alone."""
    prepared = llm.prepare(bare(2), TALK, 2)
    llm.answer(prepared)
    assert llm.lean is not None
    lengths = [len(prompt.ids) - 1 for prompt in prepared.prompts]
    hidden, inner, heads, kv, dim = 64, 112, 4, 2, 16
    layer = (heads + 2 * kv) * dim * hidden + heads * dim * hidden + 3 * inner * hidden
    linear = 2 * sum(lengths) * (layer + 2 * kv * dim * hidden)
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    spent = llm.lean.spent
    assert spent.prefill_flops == linear + 4 * pairs * heads * dim
    weights = (2 * layer + 2000 * hidden) * 4
    token = 2 * 2 * kv * dim * 4
    past: Sequence[int] = [sum(lengths) + 2 * step for step in range(spent.steps)]
    assert spent.steps == 10
    assert spent.decode_bytes == spent.steps * weights + sum(past) * token


def breaking(steps: int) -> Iterator[int]:
    """A merge for which memory runs out at the layer after so many."""
    yield from range(1, steps + 1)
    raise MemoryError("the blocks of the next layer")


@pytest.mark.parametrize("steps", [0, 1])
def test_a_candidate_whose_merge_ran_out_of_memory_is_not_answered_half_merged(llm: Engine, steps: int):
    prepared = llm.prepare(bare(6), TALK, 6)
    said = llm.answer(prepared)
    llm.pending.begin(breaking(steps))
    with pytest.raises(MemoryError, match="next layer"):
        llm.answer(prepared)
    assert prepared.halved == [], "fewer rows would not have helped"
    assert llm.pending.drop()
    assert llm.answer(prepared) == said


def test_no_layer_is_read_before_it_is_merged(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_memory, "CHUNK_ON_CPU", 32)  # several chunks, of which the first one merges
    prepared = llm.prepare(bare(12), TALK, 12)
    said = llm.answer(prepared)
    whole = {name: parameter.data.clone() for name, parameter in llm.tower.items()}
    layers = 1 + max(layer for name in whole if (layer := layer_of(name)) is not None)
    asked = []

    def merging() -> Iterator[int]:
        """The embeddings, each layer, the rest; what is not merged yet is not a number."""
        for turn in range(-1, layers + 1):
            for name, parameter in llm.tower.items():
                first = -1 if "embed_tokens" in name else layers
                if (layer_of(name) if layer_of(name) is not None else first) == turn:
                    parameter.data.copy_(whole[name])
            asked.append(turn)
            yield turn + 1

    for parameter in llm.tower.values():
        parameter.data.fill_(torch.nan)
    llm.pending.begin(merging())
    assert llm.answer(prepared) == said
    assert asked == list(range(-1, layers + 1))
