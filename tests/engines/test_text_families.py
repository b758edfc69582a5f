"""Every family of text models is asked as transformers itself would ask it: padded, with shared beginnings."""

from pathlib import Path

import pytest
import torch

from evovlm.engines._self_check import deviation
from evovlm.engines.hf import Engine
from evovlm.tasks import Generation, Item
from tests.engine_calls import assert_answers
from tests.engines.test_families import CLOSE, own_logits, paths
from tests.text_families import SLOWER, TEXT_PARAMETERS, save_text_family

TALK = Generation("{question}", max_new_tokens=8)
# Longer than the families' windows, some with a beginning in common, and of other lengths.
SHARED = "what is the name of the "
ASKED = [f"{SHARED}red one", f"{SHARED}blue one there", "a", "say it again"]
WINDOW = 16


@pytest.fixture(scope="module", params=TEXT_PARAMETERS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def engine(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(save_text_family(kind, tmp_path_factory.mktemp("text") / kind))


def items() -> list[Item]:
    return [Item(id=str(index), question=words, references=("x",), image=None) for index, words in enumerate(ASKED)]


def test_which_path_answers_a_text_is_known(engine: Engine, kind: str):
    assert (engine.lean is None) == (kind in SLOWER)


def test_greedy_answers_to_texts_are_those_of_generate(engine: Engine, kind: str):
    prompts = engine.prepare(items(), TALK, 4).prompts
    lengths = sorted(len(prompt.ids) for prompt in prompts)
    assert lengths[0] < WINDOW < lengths[-1]
    said = []
    for prompt in prompts:
        ids = prompt.ids[None]
        whole = engine.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=TALK.max_new_tokens, do_sample=False
        )
        said.append(engine.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert len(set(said)) > 1
    assert_answers(engine, items(), TALK, said)


def test_logits_of_texts_are_those_of_the_model_s_own_forward_pass(engine: Engine, kind: str):
    prompts = engine.prepare(items(), TALK, 4).prompts
    own = [own_logits(engine, {"input_ids": prompt.ids[None]}) for prompt in prompts]
    after = [own_logits(engine, {"input_ids": torch.cat([prompt.ids, torch.tensor([5])])[None]}) for prompt in prompts]
    for logits in paths(engine):
        found = logits(prompts, [5] * len(prompts))
        for row, expected in enumerate(own):
            assert deviation(found[:1, row], expected) < CLOSE, f"prompt {row}"
            assert deviation(found[1:, row], after[row]) < CLOSE, f"prompt {row}, one token later"


def test_a_saved_family_is_loaded_in_full(kind: str, tmp_path: Path):
    """What is compared above is the model that was saved, not one with fresh weights."""
    from transformers import AutoModelForCausalLM

    from evovlm.models.loading import load_reporting

    _, report = load_reporting(AutoModelForCausalLM, save_text_family(kind, tmp_path / kind))
    assert not report.in_words()
    assert not report.left_over
    assert not report.beside
