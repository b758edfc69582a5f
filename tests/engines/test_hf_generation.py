"""The ways of answering that a `Generation` names: beams, penalties, stop strings, samples, chat; and streams."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from evovlm.engines._sampling import sampler
from evovlm.engines.hf import Engine
from evovlm.system.errors import DataError
from tests.engines.asking import ASK, TALK, items, plain


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


def test_weights_that_are_not_numbers_fail_in_beams_too(llm: Engine):
    weight = llm.tower["model.norm.weight"]
    before = weight.data.clone()
    try:
        weight.data.fill_(torch.nan)
        with pytest.raises(FloatingPointError, match="not finite"):
            llm.answer(llm.prepare(items(2, seeing=False), replace(TALK, num_beams=2), 2))
    finally:
        weight.data.copy_(before)


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
    before = engine.processor.chat_template, engine.tokenizer.chat_template
    engine.processor.chat_template = engine.tokenizer.chat_template = None
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
        engine.processor.chat_template, engine.tokenizer.chat_template = before
    for one, other in zip(inside, outside, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
