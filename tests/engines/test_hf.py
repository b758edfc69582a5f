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
from evovlm.tasks import Generation, Item
from tests.hub_layouts import Family, make_tokenizer, save_llm, save_vlm

ASK = Generation("<image>\n{question}", max_new_tokens=12)
TALK = Generation("{question}", max_new_tokens=12)
WORDS = ["a", "what is this", "how many red things are there in it", "one two three four five six seven"]
COLOURS = ["red", "blue", "green", "white"]


def items(count: int, *, seeing: bool) -> list[Item]:
    def paint(index: int) -> Image.Image:
        size = (40 + 10 * (index % 3), 40)
        return Image.new("RGB", size, COLOURS[index % len(COLOURS)])

    return [
        Item(
            id=str(index),
            question=" ".join([WORDS[index % len(WORDS)]] * (1 + index % 2)),
            references=("x",),
            image=(lambda index=index: paint(index)) if seeing else None,
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_llm(tmp_path_factory.mktemp("llm") / "llm"), dtype=torch.float32)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_vlm(tmp_path_factory.mktemp("vlm") / "vlm"), dtype=torch.float32)


def plain(engine: Engine, item: Item, generation: Generation, **more: Any) -> str:
    """What `generate` says to one prompt, pixels and all."""
    text = generation.template.replace("{question}", item.question)
    if engine.sees:
        assert item.image is not None
        inputs = engine.processor(text=text, images=item.image(), return_tensors="pt")
    else:
        inputs = engine.tokenizer(text, return_tensors="pt")
    made = engine.model.generate(**inputs, max_new_tokens=generation.max_new_tokens, do_sample=False, **more)
    said = made[0, inputs["input_ids"].shape[1] :]
    return str(engine.tokenizer.decode(said, skip_special_tokens=True)).strip()


@pytest.fixture(params=["lean", "loop"])
def path(request: pytest.FixtureRequest, llm: Engine, vlm: Engine, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both paths of the engines: the lean one, and the loop over transformers' own layers."""
    if request.param == "loop":
        for engine in (llm, vlm):
            monkeypatch.setattr(engine, "lean", None)
    return str(request.param)


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
    ends = sorted({int(row[-3 - 2 * (index % 3)]) for index, row in enumerate(said)})
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


@pytest.mark.parametrize(
    "settings", [{"num_beams": 3}, {"repetition_penalty": 1.5}, {"num_beams": 3, "repetition_penalty": 1.5}]
)
@pytest.mark.parametrize("seeing", [True, False])
def test_beams_and_penalties_are_those_of_generate(
    request: pytest.FixtureRequest, settings: dict[str, Any], seeing: bool
):
    engine: Engine = request.getfixturevalue("vlm" if seeing else "llm")
    asked = items(6, seeing=seeing)
    beams = replace(ASK if seeing else TALK, **settings)
    assert engine.answer(engine.prepare(asked, beams, 6)) == [plain(engine, item, beams, **settings) for item in asked]


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


def test_weights_that_are_not_numbers_fail_in_beams_too(llm: Engine):
    weight = llm.tower["model.norm.weight"]
    before = weight.data.clone()
    try:
        weight.data.fill_(torch.nan)
        with pytest.raises(FloatingPointError, match="not finite"):
            llm.answer(llm.prepare(items(2, seeing=False), replace(TALK, num_beams=2), 2))
    finally:
        weight.data.copy_(before)


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


@pytest.mark.usefixtures("path")
def test_an_answer_ends_before_the_first_stop_string(llm: Engine):
    asked = items(1, seeing=False)
    (whole,) = llm.answer(llm.prepare(asked, TALK, 1))
    middle, later = whole[len(whole) // 2], whole[-1]
    (cut,) = llm.answer(llm.prepare(asked, replace(TALK, stop=("never said", later, middle)), 1))
    assert cut == whole[: min(whole.index(middle), whole.index(later))].strip()
    assert len(cut) < len(whole)


def test_a_batch_ends_where_every_answer_has_stopped(llm: Engine, monkeypatch: pytest.MonkeyPatch):
    asked, long = items(5, seeing=False), replace(TALK, max_new_tokens=64)
    monkeypatch.setattr(llm, "lean", None)
    whole = llm.answer(llm.prepare(asked, long, 5))
    # A character of each answer's first words, so that all of them stop early.
    stops = tuple({text[2] for text in whole if len(text) > 2})
    steps = []
    head = llm.model.lm_head.forward
    monkeypatch.setattr(llm.model.lm_head, "forward", lambda hidden: steps.append(1) or head(hidden))
    cut = llm.answer(llm.prepare(asked, replace(long, stop=stops), 5))
    assert len(steps) <= 32 < 64
    for before, after in zip(whole, cut, strict=True):
        assert after == before[: min((before.find(stop) for stop in stops if stop in before), default=None)].strip()


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


@pytest.mark.parametrize("seeing", [False, True])
def test_a_stream_ends_in_what_answer_says(request: pytest.FixtureRequest, seeing: bool):
    engine: Engine = request.getfixturevalue("vlm" if seeing else "llm")
    generation = ASK if seeing else TALK
    for item in items(4, seeing=seeing):
        prepared = engine.prepare([item], generation, 1)
        pieces = list(engine.stream(prepared))
        assert [tokens for _, tokens in pieces] == list(range(1, len(pieces) + 1))
        assert (pieces[-1][0] if pieces else "") == engine.answer(prepared)[0]


def test_a_stream_with_a_stop_string_ends_before_it(llm: Engine):
    item = items(1, seeing=False)[0]
    whole = list(llm.stream(llm.prepare([item], TALK, 1)))[-1][0]
    stop = whole[len(whole) // 2]
    stopping = replace(TALK, stop=(stop,))
    *_, (text, tokens) = llm.stream(llm.prepare([item], stopping, 1))
    assert text == whole[: whole.index(stop)].strip()
    assert tokens <= TALK.max_new_tokens


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("seeing", [False, True])
def test_a_sampled_answer_depends_on_seed_and_item_not_on_the_batch(request: pytest.FixtureRequest, seeing: bool):
    engine: Engine = request.getfixturevalue("vlm" if seeing else "llm")
    warm = replace(ASK if seeing else TALK, temperature=1.0)
    asked = items(9, seeing=seeing)
    alone, together = (engine.answer(engine.prepare(asked, warm, batch)) for batch in (1, 9))
    assert alone == together
    assert engine.answer(engine.prepare(asked[4:], warm, 3)) == alone[4:]
    assert engine.answer(engine.prepare(asked, replace(warm, seed=1), 9)) != alone


@pytest.mark.usefixtures("path")
def test_a_cold_sample_is_the_greedy_answer(llm: Engine):
    asked = items(4, seeing=False)
    cold = replace(TALK, temperature=1e-6)
    assert llm.answer(llm.prepare(asked, cold, 4)) == llm.answer(llm.prepare(asked, TALK, 4))


def test_draws_follow_the_softmax():
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]])).repeat(4000, 1)
    choose = sampler(replace(TALK, temperature=1.0), [str(row) for row in range(4000)])
    _, drawn = choose(logits, torch.arange(4000))
    shares = torch.bincount(drawn, minlength=3) / 4000
    assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=0.03)


def test_sampled_beams_are_refused(llm: Engine):
    with pytest.raises(DataError, match="num_beams"):
        llm.answer(llm.prepare(items(1, seeing=False), replace(TALK, temperature=1.0, num_beams=2), 1))


@pytest.mark.parametrize("seeing", [False, True])
def test_the_chat_template_of_the_model_goes_around_the_question(request: pytest.FixtureRequest, seeing: bool):
    engine: Engine = request.getfixturevalue("vlm" if seeing else "llm")
    chat = replace(ASK if seeing else TALK, chat=True)
    asked = items(2, seeing=seeing)
    before = engine.processor.chat_template
    engine.processor.chat_template = None
    with pytest.raises(DataError, match="no chat template"):
        engine.prepare(asked, chat, 2)
    engine.processor.chat_template = (
        "{{ bos_token }}one {% for message in messages %}{% if message.content is string %}"
        "{{ message.content }}{% else %}"
        "{% for part in message.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %} two{% endif %}"
    )
    try:
        bare = chat.template.replace("<image>\n", "<image>")
        written = replace(chat, chat=False, template=f"one {bare} two")
        inside, outside = (engine.prepare(asked, generation, 2).prompts for generation in (chat, written))
    finally:
        engine.processor.chat_template = before
    for one, other in zip(inside, outside, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
