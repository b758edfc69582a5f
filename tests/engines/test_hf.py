"""The engine says what transformers' own `generate` says, in float32, token for token, on either of its paths."""

import json
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from evovlm.engines._sampling import sampler
from evovlm.engines.hf import Engine
from evovlm.system.errors import CheckpointError, DataError
from evovlm.tasks import Item
from tests.engines.asking import ASK, COLOURS, TALK, items, plain
from tests.hub_layouts import Family, make_tokenizer, save_llm, save_vlm


@pytest.mark.usefixtures("path")
def test_a_language_model_says_what_generate_says(llm: Engine):
    asked = items(8, seeing=False)
    assert llm.answer(llm.prepare(asked, TALK, 8)) == [plain(llm, item, TALK) for item in asked]


@pytest.mark.usefixtures("path")
def test_a_vlm_says_what_generate_says(vlm: Engine):
    asked = items(8, seeing=True)
    assert vlm.answer(vlm.prepare(asked, ASK, 8)) == [plain(vlm, item, ASK) for item in asked]


@pytest.mark.usefixtures("path")
def test_the_batch_changes_no_answer(vlm: Engine):
    asked = items(16, seeing=True)
    assert vlm.answer(vlm.prepare(asked, ASK, 1)) == vlm.answer(vlm.prepare(asked, ASK, 16))


def test_rows_that_end_early_leave_the_others_as_they_were(llm: Engine):
    """Tokens that the model likes to say are made end tokens, so that rows end at different steps."""
    asked = items(12, seeing=False)
    prompts = llm.prepare(asked, TALK, 12).prompts
    ids, mask = llm._pad(prompts)
    said = [llm.model.generate(prompt.ids[None], max_new_tokens=12, do_sample=False)[0] for prompt in prompts]
    ends = sorted({int(said[0][-1]), int(said[1][-3]), int(said[2][-6])})
    before = llm._ends
    llm._ends = torch.tensor(ends)
    try:
        made = llm._one_by_one(
            llm._embed(prompts, ids, mask),
            mask,
            12,
            sampler(TALK, [item.id for item in asked]),
            (),
            llm._context(prompts, ids, mask),
        )
    finally:
        llm._ends = before
    lengths = set()
    for prompt, row in zip(prompts, made, strict=True):
        whole = llm.model.generate(prompt.ids[None], max_new_tokens=12, do_sample=False, eos_token_id=ends)[0]
        expected = whole[len(prompt.ids) :].tolist()
        lengths.add(len(expected))
        assert row.tolist() == expected + [ends[0]] * (12 - len(expected))
    assert len(lengths) > 1, "all rows end at once: nothing was shown"


@pytest.mark.usefixtures("path")
def test_the_answers_follow_the_live_weights(llm: Engine):
    asked = items(4, seeing=False)
    prepared = llm.prepare(asked, TALK, 4)
    before = llm.answer(prepared)
    kept = {name: parameter.data.clone() for name, parameter in llm.tower.items()}
    try:
        llm.tower["model.embed_tokens.weight"].data.mul_(-1.0)
        assert llm.answer(prepared) != before
    finally:
        for name, parameter in llm.tower.items():
            parameter.data.copy_(kept[name])
    assert llm.answer(prepared) == before


@pytest.mark.usefixtures("path")
def test_weights_that_are_not_numbers_are_an_error_and_not_an_answer(llm: Engine):
    weight = llm.tower["model.norm.weight"]
    before = weight.data.clone()
    try:
        weight.data.fill_(torch.nan)
        with pytest.raises(FloatingPointError, match="not finite"):
            llm.answer(llm.prepare(items(2, seeing=False), TALK, 2))
    finally:
        weight.data.copy_(before)


@pytest.mark.slow
@pytest.mark.parametrize("next_", [True, False])
@pytest.mark.parametrize("family", ["mistral", "llama", "qwen2"])
def test_every_family_says_what_generate_says(tmp_path: Path, family: Family, next_: bool):
    engine = Engine.load(save_vlm(tmp_path / "vlm", family=family, next_=next_), dtype=torch.float32)
    asked = items(5, seeing=True)
    answers = engine.answer(engine.prepare(asked, ASK, 5))
    assert answers == [plain(engine, item, ASK) for item in asked]
    assert len(set(answers)) > 1, "every answer is the same: nothing was shown"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "config.json",
            '{"model_type": "nothing"}',
            "broken is of the kind 'nothing', which this transformers does not",
        ),
        ("tokenizer.json", "{", r"broken/tokenizer.json:1:2: not valid JSON"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0}}}', r"broken: transformers cannot load it \("),
    ],
)
def test_a_folder_that_transformers_cannot_load_is_named(tmp_path: Path, name: str, text: str, told: str):
    folder = save_llm(tmp_path / "broken", rows=600, tokenizer=make_tokenizer(600))
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=told):
        Engine.load(folder)


@pytest.mark.parametrize("next_", [False, True])
def test_a_processor_that_does_not_say_how_many_tokens_a_picture_takes_is_completed(tmp_path: Path, next_: bool):
    folder = save_vlm(tmp_path / "vlm", next_=next_)
    asked = items(3, seeing=True)
    whole = Engine.load(folder, dtype=torch.float32)
    expected = whole.answer(whole.prepare(asked, ASK, 3))
    path = folder / "processor_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    told = {key: content.pop(key) for key in ("patch_size", "vision_feature_select_strategy")}
    assert all(told.values())
    content.pop("num_additional_image_tokens", None)
    path.write_text(json.dumps(content), encoding="utf-8")
    bare = Engine.load(folder, dtype=torch.float32)
    assert bare.answer(bare.prepare(asked, ASK, 3)) == expected


def test_a_tied_head_is_the_embeddings(tmp_path: Path):
    engine = Engine.load(save_vlm(tmp_path / "vlm", family="qwen2", tie_word_embeddings=True), dtype=torch.float32)
    assert "lm_head.weight" not in engine.tower
    assert engine.model.lm_head.weight is engine.tower["model.embed_tokens.weight"]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("can't allocate memory: 9 bytes")],
)
def test_a_batch_that_does_not_fit_is_halved_and_told(llm: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception):
    asked = items(10, seeing=False)
    expected = llm.answer(llm.prepare(asked, TALK, 10))
    monkeypatch.setattr(llm, "lean", None)
    greedy = llm._one_by_one

    def small(embeddings: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(embeddings) > 3:
            raise error
        return greedy(embeddings, *rest)

    monkeypatch.setattr(llm, "_one_by_one", small)
    prepared = llm.prepare(asked, TALK, 10)
    heard: list[int] = []
    assert llm.answer(prepared, heard.append) == expected
    assert prepared.halved == [10, 5, 5]
    assert heard == [3, 2, 3, 2]
    # The next candidate starts from the plan that fitted.
    assert llm.answer(prepared) == expected
    assert prepared.halved == [10, 5, 5]


def test_other_errors_are_not_taken_for_want_of_memory(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(llm, "lean", None)
    monkeypatch.setattr(llm, "_one_by_one", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        llm.answer(llm.prepare(items(2, seeing=False), TALK, 2))


def test_equal_images_are_seen_once(vlm: Engine, monkeypatch: pytest.MonkeyPatch):
    looks = []
    look = vlm.model.get_image_features

    @wraps(look)
    def noted(**inputs: Any) -> Any:
        looks.append(1)
        return look(**inputs)

    monkeypatch.setattr(vlm.model, "get_image_features", noted)
    vlm.prepare(items(24, seeing=True), ASK, 8)
    assert len(looks) == len({(index % 3, index % len(COLOURS)) for index in range(24)}) == 12


@pytest.mark.usefixtures("path")
def test_a_vlm_answers_a_question_without_an_image(vlm: Engine):
    asked = [*items(2, seeing=False), *items(2, seeing=True)]
    answers = vlm.answer(vlm.prepare(asked, ASK, 4))
    ids = vlm.tokenizer(asked[0].question, return_tensors="pt")
    made = vlm.model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert answers[0] == vlm.tokenizer.decode(made, skip_special_tokens=True).strip()
    assert answers[2:] == [plain(vlm, item, ASK) for item in asked[2:]]


@pytest.mark.parametrize("template", ["{question}", "<image><image>{question}"])
def test_a_prompt_without_one_place_for_the_image_is_refused(vlm: Engine, template: str):
    with pytest.raises(DataError, match="item 0"):
        vlm.prepare(items(1, seeing=True), replace(ASK, template=template), 1)


def test_the_tower_has_canonical_names(vlm: Engine, llm: Engine):
    assert set(vlm.tower) == set(llm.tower)
    assert "model.layers.0.mlp.up_proj.weight" in vlm.tower
    assert "lm_head.weight" in vlm.tower


def test_no_items_give_no_answers(llm: Engine):
    assert llm.answer(llm.prepare([], TALK, 4)) == []


def test_an_image_that_cannot_be_read_names_its_item(vlm: Engine):
    def broken() -> Image.Image:
        raise OSError("truncated")

    with pytest.raises(DataError, match="item bad: its image cannot be read"):
        vlm.prepare([Item("bad", "q", ("r",), broken)], ASK, 1)
