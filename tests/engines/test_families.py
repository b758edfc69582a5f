"""Every family of vision-language models is asked as transformers itself would ask it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from evovlm.engines import _lean, hf
from evovlm.engines._self_check import deviation
from evovlm.engines.hf import Engine
from evovlm.engines.prompts import Prompt
from evovlm.models.families import family_of
from evovlm.system.errors import DataError
from evovlm.tasks import Generation, Item
from tests.engine_calls import assert_answers
from tests.vlm_families import PARAMETERS, Made, save_family

ASK = Generation("<image>\n{question}", max_new_tokens=8)
MIDDLE = Generation("{question}\n<image>\nsay", max_new_tokens=8)
TALK = Generation("{question}", max_new_tokens=8)
# Pictures of one tile and of several, in both directions; the last question is asked about the first picture.
ASKED = [("what is this", (50, 40), "red"), ("how many red things are there in it", (60, 200), "blue"),
         ("a", (140, 100), "green"), ("say it again please", (50, 40), "red")]  # fmt: skip
PLAIN = {"gemma3", "paligemma2", "aya_vision"}  # layers of other kinds, or tokens that see later ones
CLOSE = 1e-5  # of the logits' spread
DECODED = 3  # steps that are compared: after the prompt, and after one and two more tokens, which the cache serves
NEXT = 5  # the token that is read after every prompt, again and again


@pytest.fixture(scope="module", params=PARAMETERS)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def loaded(family: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Made]:
    folder = tmp_path_factory.mktemp("family") / family
    made = save_family(family, folder)
    return Engine.load(folder), made


def picture(size: tuple[int, int], colour: str) -> Image.Image:
    """A bright corner on a ground, so that places in a picture differ."""
    image = Image.new("RGB", size, colour)
    image.paste((250, 240, 200), (0, 0, size[0] // 2, size[1] // 3))
    return image


def items(count: int = len(ASKED)) -> list[Item]:
    def item(index: int, words: str, size: tuple[int, int], colour: str) -> Item:
        return Item(id=str(index), question=words, references=("x",), image=lambda: picture(size, colour))

    return [item(index, *asked) for index, asked in enumerate(ASKED[:count])]


def inputs_of(engine: Engine, made: Made, item: Item, template: str = ASK.template) -> Any:
    assert item.image is not None
    text = template.replace("<image>", made.mark).replace("{question}", item.question)
    found = engine.processor(text=text, images=item.image(), return_tensors="pt")
    return {name: value for name, value in found.items() if name != "labels"}


@torch.inference_mode()
def own_logits(engine: Engine, inputs: Any) -> Tensor:
    logits: Tensor = engine.model(**inputs, use_cache=False).logits[:, -1].float()
    return logits


@torch.inference_mode()
def generated_logits(engine: Engine, inputs: Any) -> Tensor:
    """Logits [DECODED, vocabulary] of `generate`, which is made to say the next token again and again."""

    def say(ids: Tensor, scores: Tensor) -> Tensor:
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([NEXT]), 0.0)

    asked = {"max_new_tokens": DECODED, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    made = engine.model.generate(**inputs, **asked, logits_processor=[say])
    return torch.stack([logits[0].float() for logits in made.logits])


@pytest.fixture
def more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both paths give the logits of as many steps as are compared here."""
    for module in (hf, _lean):
        monkeypatch.setattr(module, "STEPS", DECODED)


def paths(engine: Engine) -> list[Any]:
    """Both paths: (prompts, tokens) -> logits after each prompt, and after further tokens."""
    return [engine.loop_logits, *([engine.lean.logits] if engine.lean is not None else [])]


def test_which_path_answers_is_known(loaded: tuple[Engine, Made], family: str):
    assert (loaded[0].lean is None) == (family in PLAIN)


def test_greedy_answers_are_those_of_generate(loaded: tuple[Engine, Made]):
    engine, made = loaded
    said = []
    for item in items():
        inputs = inputs_of(engine, made, item)
        whole = engine.model.generate(**inputs, max_new_tokens=ASK.max_new_tokens, do_sample=False)
        said.append(engine.tokenizer.decode(whole[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    assert len(set(said)) > 1
    assert_answers(engine, items(), ASK, said)


@pytest.mark.usefixtures("more_steps")
def test_logits_are_those_of_the_model_s_own_forward_pass(loaded: tuple[Engine, Made]):
    """With pictures of one tile and of several, a shared one and none, first and between words, in one batch."""
    engine, made = loaded
    seeing = [*engine.prepare(items(), ASK, 4).prompts, *engine.prepare(items(2), MIDDLE, 2).prompts]
    blind = engine.prepare([replace(item, image=None) for item in items(2)], TALK, 2).prompts
    prompts: Sequence[Prompt] = [*seeing, *blind]
    asked = [inputs_of(engine, made, item) for item in items()]
    asked += [inputs_of(engine, made, item, MIDDLE.template) for item in items(2)]
    asked += [{"input_ids": prompt.ids[None]} for prompt in blind]
    own = [own_logits(engine, inputs) for inputs in asked]
    said = [generated_logits(engine, inputs) for inputs in asked]
    for logits in paths(engine):
        found = logits(prompts, [NEXT] * len(prompts))
        assert len(found) == DECODED
        for row, expected in enumerate(own):
            assert deviation(found[:1, row], expected) < CLOSE, f"prompt {row}"
            assert deviation(found[:, row], said[row]) < CLOSE, f"prompt {row}, later tokens"


def test_another_picture_or_another_place_of_it_is_another_answer(loaded: tuple[Engine, Made]):
    engine, _ = loaded
    item = items(1)[0]
    changed = replace(item, image=lambda: picture((50, 40), "black"))
    prompts = [engine.prepare([one], how, 1).prompts[0] for one, how in ((item, ASK), (changed, ASK), (item, MIDDLE))]
    for logits in paths(engine):
        found = [logits([prompt], [NEXT])[:1, 0] for prompt in prompts]
        assert deviation(found[1], found[0]) > 100 * CLOSE
        assert deviation(found[2], found[0]) > 100 * CLOSE


def test_a_prompt_with_two_places_for_its_picture_is_refused(loaded: tuple[Engine, Made]):
    engine, _ = loaded
    with pytest.raises(DataError, match="must contain <image> once"):
        engine.prepare(items(1), replace(ASK, template="<image>\n<image>\n{question}"), 1)


def test_a_picture_lies_among_the_text_as_its_family_s_row_says(loaded: tuple[Engine, Made]):
    engine, _ = loaded
    row, prompt = family_of({"model_type": engine.model.config.model_type}), engine.prepare(items(1), ASK, 1).prompts[0]
    grid = prompt.axes is not None and bool((prompt.axes[1] != prompt.axes[2]).any())
    assert grid == (row.positions == "grid")
    assert (prompt.axes is None) == (row.positions == "row")


@torch.inference_mode()
def test_tokens_see_later_ones_as_their_family_s_row_says(loaded: tuple[Engine, Made]):
    """A change of the last image token, or of the last token of all, shows in the states of the first image token."""
    engine, made = loaded
    inputs = inputs_of(engine, made, items(1)[0])
    places = (inputs["input_ids"][0] == engine.model.config.image_token_id).nonzero().flatten()
    tower = engine.model.get_decoder()

    def first(changed: int | None) -> Tensor:
        def change(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            embeddings = given["inputs_embeds"].clone()
            if changed is not None:
                embeddings[0, changed] = -embeddings[0, changed]
            return args, given | {"inputs_embeds": embeddings}

        with_change = tower.register_forward_pre_hook(change, with_kwargs=True)
        kept: list[Tensor] = []
        keep = tower.register_forward_hook(lambda *call: kept.append(call[-1].last_hidden_state[0, int(places[0])]))
        try:
            engine.model(**inputs, use_cache=False)
        finally:
            with_change.remove()
            keep.remove()
        return kept[0]

    sees_picture, sees_prompt = (
        not torch.equal(first(None), first(changed)) for changed in (int(places[-1]), inputs["input_ids"].shape[1] - 1)
    )
    found = "prompt" if sees_prompt else "picture" if sees_picture else "causal"
    assert sees_picture or not sees_prompt
    assert found == family_of({"model_type": engine.model.config.model_type}).attention
