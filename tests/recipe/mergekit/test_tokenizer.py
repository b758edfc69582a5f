"""Whose tokens, rows and chat template the output of a mergekit file has, from the files to the merged folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoTokenizer

from evovlm.evaluators._resident import open_resident
from evovlm.merging.assembly import assemble
from evovlm.merging.build import build_checkpoint
from evovlm.merging.live.choose import Keeping
from evovlm.recipe.mergekit import read_mergekit, write_mergekit
from evovlm.recipe.mergekit._templates import NAMED
from evovlm.system.errors import RecipeError
from tests.hub_layouts import make_tokenizer, save_llm

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
OTHER = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
TALK = [{"role": "user", "content": "hello"}]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """a and b with the same tokens in another order, c with one token less, d with one more."""
    for name, tokenizer, rows, template in (
        ("a", make_tokenizer(600), 600, PLAIN),
        ("b", make_tokenizer(600, order_seed=7), 600, OTHER),
        ("c", make_tokenizer(599), 600, OTHER),
        ("d", make_tokenizer(600, added=("<more>",)), 601, None),
    ):
        tokenizer.chat_template = template
        save_llm(tmp_path / name, rows=rows, tokenizer=tokenizer, seed=ord(name), dtype=torch.float32)
    return tmp_path


def merge(models: Path, *names: str, **keys: Any) -> str:
    listed = [{"model": name, "parameters": {"weight": 0.5}} for name in names]
    return str(yaml.safe_dump({"merge_method": "linear", "models": listed, "dtype": "float32", **keys}))


def rows(models: Path, name: str) -> Mapping[str, np.ndarray[Any, Any]]:
    """A model's embedding by token."""
    opened = assemble(read_mergekit(merge(models, name), models / "m.yml"), models).owner
    table = opened.checkpoint.tensor(opened.tower["model.embed_tokens.weight"]).double().numpy()
    return {token: table[row] for token, row in (opened.tokens or {}).items() if row < len(table)}


@pytest.mark.parametrize("second", ["b", "c"])
@pytest.mark.parametrize(
    "key", [{"tokenizer": {"source": "union"}}, {"tokenizer_source": "union"}, {"tokenizer": {"tokens": {}}}]
)
def test_a_union_that_adds_nothing_has_the_firsts_rows_matched_by_token(models: Path, second: str, key: dict[str, Any]):
    recipe = read_mergekit(merge(models, "a", second, **key), models / "m.yml")
    assembly = assemble(recipe, models)
    job = next(job for job in assembly.jobs if job.name == "model.embed_tokens.weight")
    merged = assembly.merge(job).double().numpy()
    first, other = rows(models, "a"), rows(models, second)
    for token, row in (assembly.owner.tokens or {}).items():
        wanted = (first[token] + other.get(token, first[token])) / 2  # absent: the row of the only model that has it
        assert np.allclose(merged[row], wanted, atol=1e-7), token


def test_a_union_that_adds_a_token_is_refused_by_its_name(models: Path):
    with pytest.raises(
        RecipeError, match=r"tokenizer.source: the union would add 1 tokens of d that a lacks: '<more>'"
    ):
        read_mergekit(merge(models, "a", "d", tokenizer={"source": "union"}), models / "m.yml")
    assert read_mergekit(merge(models, "d", "a", tokenizer={"source": "union"}), models / "m.yml").owner == "d"


def test_a_token_that_some_others_have_would_get_a_mean_row_and_is_refused(models: Path):
    with pytest.raises(RecipeError, match="in some of the models and not in all"):
        read_mergekit(merge(models, "a", "b", "c", tokenizer={"source": "union"}), models / "m.yml")


def test_the_reference_of_a_union_is_the_base(models: Path):
    text = merge(models, "b", "c", tokenizer_source="union", base_model="a", merge_method="task_arithmetic")
    recipe = read_mergekit(text, models / "m.yml")
    assert (recipe.owner, recipe.vocab) == (None, "match")


def test_a_model_may_be_written_with_its_prefix(models: Path):
    recipe = read_mergekit(merge(models, "a", "b", tokenizer_source="model:b"), models / "m.yml")
    assert (recipe.owner, recipe.vocab) == ("b", "match")
    with pytest.raises(RecipeError, match="tokenizer_source: 'z' is not one of the merged models; choose from a, b"):
        read_mergekit(merge(models, "a", "b", tokenizer_source="model:z"), models / "m.yml")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [(("a", "b", "c"), OTHER), (("a", "b"), None), (("b", "a"), None), (("d", "a"), PLAIN), (("d",), None)],
)
def test_auto_is_the_most_frequent_template_or_the_first(models: Path, names: tuple[str, ...], wanted: str | None):
    text = merge(models, *names, chat_template="auto", tokenizer_source=names[0])
    assert read_mergekit(text, models / "m.yml").chat_template == wanted  # None: the owner's, which is copied


def test_a_template_reaches_the_merged_folder_and_the_resident_model(models: Path):
    text = merge(models, "a", "b", chat_template=OTHER, tokenizer_source="a")
    recipe = read_mergekit(text, models / "m.yml")
    assert read_mergekit(write_mergekit(recipe), models / "m.yml").chat_template == OTHER
    assembly = assemble(recipe, models)
    build_checkpoint(assembly, models / "out")
    tokenizer: Any = AutoTokenizer.from_pretrained(models / "out")
    assert tokenizer.apply_chat_template(TALK, tokenize=False) == "[hello]"
    assert "chat_template" not in json.loads((models / "out" / "tokenizer_config.json").read_text())
    resident: Any = open_resident(assembly, "cpu", Keeping(), None, self_check=False)
    assert resident.engine.tokenizer.apply_chat_template(TALK, tokenize=False) == "[hello]"


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_known_name_is_a_template_that_opens_the_answer(models: Path, name: str):
    recipe = read_mergekit(merge(models, "a", "b", chat_template=name, tokenizer_source="a"), models / "m.yml")
    tokenizer = make_tokenizer(600)
    tokenizer.chat_template = recipe.chat_template
    said = str(tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True))
    ends = {
        "alpaca": "### Instruction:\nhello\n\n### Response:\n",
        "chatml": "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
        "exaone": "[|user|]hello\n[|assistant|]",
        "llama3": "user<|end_header_id|>\n\nhello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "mistral": "[INST] hello [/INST]",
    }
    assert said.endswith(ends[name])
