"""Questions in chat templates: every family is asked what transformers' own processor makes of its template."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import ProcessorMixin

from evovlm.engines.chat import Placed, in_chat, lend_template, set_template, template_of
from evovlm.engines.hf import Engine
from evovlm.models.processors import load_processor
from evovlm.system.errors import DataError
from evovlm.tasks import Generation, Item
from evovlm.tasks._preset_parts import VQA_CHAT, VQA_PALIGEMMA
from tests.chat_layouts import LAYOUTS
from tests.engine_calls import assert_answers
from tests.hub_layouts import make_tokenizer
from tests.vlm_families import FAMILIES, QUICK, save_family

CHAT = Generation(VQA_CHAT["template"], max_new_tokens=8, chat=True)
QUESTION = "how many red things are there"
CHATTING = [
    pytest.param(name, marks=() if name in (*QUICK, "pixtral") else pytest.mark.slow)
    for name in FAMILIES
    if name != "paligemma2"
]


def picture(size: tuple[int, int] = (60, 200)) -> Image.Image:
    image = Image.new("RGB", size, "blue")
    image.paste((250, 240, 200), (0, 0, size[0] // 2, size[1] // 3))
    return image


SEEING = Item("seeing", QUESTION, ("x",), picture)
BLIND = Item("blind", QUESTION, ("x",), None)


@pytest.fixture(scope="module", params=CHATTING)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("chat") / request.param
    save_family(request.param, folder)
    return Engine.load(folder)


def own_inputs(engine: Engine, *parts: dict[str, Any]) -> Any:
    """What the model's processor makes of a message."""
    talk = [{"role": "user", "content": list(parts)}]
    # SmolVLM's own method asks for the part that reads videos.
    return ProcessorMixin.apply_chat_template(
        engine.processor, talk, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


TEXT = {"type": "text", "text": QUESTION, "content": QUESTION}


@torch.inference_mode()
def test_a_question_about_a_picture_is_asked_and_answered_as_by_transformers(loaded: Engine):
    inputs = own_inputs(loaded, {"type": "image", "image": picture()}, TEXT)
    assert loaded.prepare([SEEING], CHAT, 1).prompts[0].ids.tolist() == inputs["input_ids"][0].tolist()
    whole = loaded.model.generate(**inputs, max_new_tokens=CHAT.max_new_tokens, do_sample=False)
    said = loaded.tokenizer.decode(whole[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert_answers(loaded, [SEEING], CHAT, [said])


def test_a_question_without_a_picture_is_too(loaded: Engine):
    """Also by templates that leave out a message that is a text, not a list of parts."""
    own = ProcessorMixin.apply_chat_template(
        loaded.processor, [{"role": "user", "content": [TEXT]}], add_generation_prompt=True, tokenize=False
    )
    assert QUESTION in own
    start = loaded.tokenizer.bos_token
    expected = loaded.tokenizer(own, add_special_tokens=not own.startswith(start))["input_ids"]
    assert loaded.prepare([BLIND], CHAT, 1).prompts[0].ids.tolist() == expected


def test_the_picture_is_where_the_preset_says(loaded: Engine):
    middle = Generation("look:<image>\n{question}", max_new_tokens=8, chat=True)
    before = {"type": "text", "text": "look:", "content": "look:"}
    inputs = own_inputs(loaded, before, {"type": "image", "image": picture()}, TEXT)
    assert loaded.prepare([SEEING], middle, 1).prompts[0].ids.tolist() == inputs["input_ids"][0].tolist()


def to_jinja(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def to_legacy(folder: Path, template: str) -> None:
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")


def into(name: str) -> Callable[[Path, str], None]:
    def write(folder: Path, template: str) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(content | {"chat_template": template}), encoding="utf-8")

    return write


PLACES = {
    "chat_template.jinja": to_jinja,
    "chat_template.json": to_legacy,
    "tokenizer_config.json": into("tokenizer_config.json"),
    "processor_config.json": into("processor_config.json"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_template_counts_in_any_file_that_the_hub_has_it_in(place: str, tmp_path: Path):
    save_family("pixtral", tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    PLACES[place](tmp_path / "model", LAYOUTS["pixtral"])
    processor = load_processor(tmp_path / "model")
    asked = f"<s>[INST][IMG]{QUESTION}[/INST]"
    assert in_chat(processor, [f"<image>\n{QUESTION}"], sees=True) == [asked]
    assert in_chat(processor, [QUESTION]) == [asked.replace("[IMG]", "")]
    engine = Engine.load(tmp_path / "model")
    seeing, blind = engine.prepare([SEEING, BLIND], CHAT, 1).prompts
    rows = [engine.tokenizer.convert_tokens_to_ids(token) for token in ("[IMG]", "[IMG_BREAK]", "[IMG_END]")]
    counts = [seeing.ids.tolist().count(row) for row in rows]
    assert min(counts) == 1 or counts[0] > counts[1] > 0
    assert counts[2] == 1
    assert not set(rows) & set(blind.ids.tolist())
    # A fault names the file that has to be corrected.
    PLACES[place](tmp_path / "model", "{{ messages[9].content }}")
    with pytest.raises(DataError, match=f"^{tmp_path}/model/{place}: the model's chat template cannot be rendered"):
        in_chat(load_processor(tmp_path / "model"), [QUESTION], sees=True)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("[INST]{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", r"\[IMG\]"),
        ("[INST]{% for m in messages %}{{ m.content }}{% endfor %}", r"\[IMG\]"),
        ("[INST][IMG][/INST]", "leaves out the question"),
        ("{% for m in messages %}{{ 'USER: ' + m.content }}{% endfor %}", "cannot be rendered"),
    ],
)
def test_a_template_that_cannot_ask_about_a_picture_is_refused_by_name(template: str, told: str, tmp_path: Path):
    save_family("pixtral", tmp_path / "model")
    to_jinja(tmp_path / "model", template)
    engine = Engine.load(tmp_path / "model")
    with pytest.raises(DataError, match=rf"^{tmp_path}/model/chat_template.jinja: the model's chat template .*{told}"):
        engine.prepare([SEEING], CHAT, 1)


@pytest.fixture(scope="module")
def pixtral(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("pixtral") / "model"
    save_family("pixtral", folder)
    return Engine.load(folder)


def told_of(engine: Engine, template: str, item: Item, preset: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a prompt in a template of the model's files."""
    for reader in (engine.processor, engine.tokenizer):
        monkeypatch.setattr(reader, "chat_template", template)
    with pytest.raises(DataError) as refused:
        engine.prepare([item], Generation(preset, max_new_tokens=8, chat=True), 1)
    return str(refused.value)


@pytest.mark.parametrize(
    ("template", "item", "preset"),
    [
        ("{{ messages[0].content[:13] }}", BLIND, "{question}"),  # no more than the length of a probe
        ("{{ messages[0].content[:13] }}", BLIND, "a few words and {question}"),
        ("[IMG]{{ messages[0].content[-1].text }}", SEEING, "look:<image>\n{question}"),  # the last part alone
        ("[IMG]{% for p in messages[0].content|reverse %}{{ p.text }}{% endfor %}", SEEING, "look:<image>\n{question}"),
    ],
)
def test_a_template_that_leaves_out_some_of_the_text_is_refused(
    template: str, item: Item, preset: str, pixtral: Engine, monkeypatch: pytest.MonkeyPatch
):
    told = told_of(pixtral, template, item, preset, monkeypatch)
    file = f"{pixtral.tokenizer.name_or_path}/chat_template.jinja"
    assert told.startswith(f"{file}: the model's chat template leaves out some of the text of item {item.id};")


@pytest.mark.parametrize(
    "template",
    [
        "[{{ messages[0].content | trim }}]",
        "{{ messages[0].content.split() | join(' ') }}",
        "{{ messages[0].content | tojson }}",
    ],
)
def test_a_template_may_change_white_space_and_write_json(template: str):
    tokenizer = make_tokenizer(600)
    set_template(tokenizer, template)
    assert len(in_chat(tokenizer, [' a "b"\n\n  c\u3000d \n', "", "\n", QUESTION])) == 4


@pytest.mark.parametrize(
    ("question", "preset", "count"),
    [
        (QUESTION, "{question}", 0),
        (QUESTION, "<image>\n{question}<image>", 2),
        (f"<image>\n{QUESTION}", "<image>\n{question}", 2),
    ],
)
def test_a_prompt_without_just_one_place_for_its_picture_is_refused_as_without_a_chat_template(
    question: str, preset: str, count: int, pixtral: Engine, monkeypatch: pytest.MonkeyPatch
):
    told = told_of(pixtral, LAYOUTS["pixtral"], replace(SEEING, question=question), preset, monkeypatch)
    assert told.startswith(f"item seeing: its prompt contains <image> {count} times")


def test_a_template_with_two_marks_for_one_picture_is_named(pixtral: Engine, monkeypatch: pytest.MonkeyPatch):
    twice = LAYOUTS["pixtral"].replace("[IMG]", "[IMG][IMG]")
    told = told_of(pixtral, twice, SEEING, "<image>\n{question}", monkeypatch)
    file = f"{pixtral.tokenizer.name_or_path}/chat_template.jinja"
    assert told.startswith(f"{file}: the model's chat template writes 2 marks for a picture ([IMG]);")


def test_a_fault_of_a_template_from_elsewhere_does_not_name_the_model_s_file(
    pixtral: Engine, monkeypatch: pytest.MonkeyPatch
):
    broken, two = "{{ messages[9].content }}", LAYOUTS["pixtral"].replace("[IMG]", "[IMG][IMG]")
    recipe = "the recipe's `chat_template`"
    for template in (broken, two, "[IMG][INST]", "{% for p in messages[0].content %}{{ p.text }}{% endfor %}"):
        told = told_of(pixtral, Placed(template, recipe), SEEING, "<image>\n{question}", monkeypatch)
        assert told.startswith(f"{recipe}: the model's chat template ")
    tokenizer = make_tokenizer(600)
    set_template(tokenizer, broken)
    with pytest.raises(DataError, match=f"^{recipe}: the model's chat template cannot be rendered"):
        in_chat(tokenizer, [QUESTION])
    borrower = make_tokenizer(600)
    lend_template(borrower, template_of(tokenizer))
    with pytest.raises(DataError, match=f"^{recipe}: the model's"):
        in_chat(copy.deepcopy(borrower), [QUESTION])
    other = make_tokenizer(600)
    lend_template(other, broken)
    with pytest.raises(DataError, match=r"^the chat template of the merged model: the model's chat template cannot"):
        in_chat(other, [QUESTION])


def test_without_questions_no_template_is_needed():
    assert in_chat(make_tokenizer(600), []) == []


def test_a_template_is_lent_only_to_a_model_that_has_none():
    tokenizer = make_tokenizer(600)
    assert not lend_template(tokenizer, None)
    assert lend_template(tokenizer, "[{{ messages[0].content }}]")
    assert in_chat(tokenizer, ["a"]) == ["[a]"]
    assert not lend_template(tokenizer, "other {{ messages[0].content }}")
    assert template_of(tokenizer) == "[{{ messages[0].content }}]"


def test_paligemma_is_asked_in_the_line_it_was_trained_on(tmp_path: Path):
    """Its processor ends a prompt about a picture by a line break; without a picture the preset's own ends it."""
    made = save_family("paligemma2", tmp_path / "model")
    engine = Engine.load(tmp_path / "model")
    generation = Generation(VQA_PALIGEMMA["template"], max_new_tokens=8)
    seeing, blind = engine.prepare([SEEING, BLIND], generation, 1).prompts
    own = made.processor(text=f"<image>answer ja {QUESTION}", images=picture(), return_tensors="pt")
    assert seeing.ids.tolist() == own["input_ids"][0].tolist()
    line = f"answer ja {QUESTION}\n"
    assert blind.ids.tolist() == engine.tokenizer(line)["input_ids"]
    assert engine.tokenizer.decode(seeing.ids).endswith(line)
