"""Whatever lies in a model's folder: a sentence and an exit code, no traceback, at once. Through the entry."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evovlm.models.checkpoint import Checkpoint, CheckpointWriter, TensorInfo
from evovlm.models.zoo_models import FOLDER
from tests.cli.hostile import VALUES, assert_answered, bounded, broken_text, changed, warm_up
from tests.cli.model_files import cut_config, cut_model, cut_weights, join_weights

pytestmark = pytest.mark.examples

# What a value may be where a number, an id or a size is due.
SIZES = st.sampled_from([-1, 0, 1, 7, 128, 129, 644, 700, 2**31, 2**53 + 1, 2**63, 10**30, 2.0, 1e300, "8", None, True])
WORDS = st.sampled_from(["relu", "llama", "qwen2", "gemma2", "llava_next", "float8", "full", "<image>", "a" * 2000])
ODD = VALUES | SIZES | WORDS | st.lists(SIZES, max_size=3)
ASK_TEXT = ("evaluate", "bad", "--data", "zoo-maths:test", "--items", "1")
ASK_PICTURE = ("evaluate", "bad", "--data", "zoo-vqa:test", "--items", "1")
CHECK = ("recipe", "check", "r.yaml", "--no-ask")
CHECK_AND_ASK = ("recipe", "check", "alone.yaml")  # asks each model of the recipe, so there is one
MERGE = ("merge", "r.yaml", "out", "--dry-run")
TABLE = "model.embed_tokens.weight"
RECIPE = """\
kind: {kind}
sources: [{{name: bad, model: bad}}]
base: {{model: base}}
method: task_arithmetic
owner: bad
"""
ALONE = "{{kind: {kind}, sources: [{{name: bad, model: bad}}], method: linear, owner: bad}}\n"


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model, `bad`, and a recipe that merges it."""
    return place(tmp_path_factory.mktemp("llm"), "ja", "llm")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a vision-language model."""
    return place(tmp_path_factory.mktemp("vlm"), "vlm", "vlm")


def place(folder: Path, name: str, kind: str) -> Path:
    """A folder with cut-down zoo models, a recipe that merges them, and one of `bad` alone; libraries are loaded."""
    cut_model("base", folder / "base")
    cut_model(name, folder / "whole")
    restore(folder)
    (folder / "r.yaml").write_text(RECIPE.format(kind=kind), encoding="utf-8")
    (folder / "alone.yaml").write_text(ALONE.format(kind=kind), encoding="utf-8")
    warm_up(MERGE, CHECK_AND_ASK, ASK_PICTURE if kind == "vlm" else ASK_TEXT, folder=folder)
    return folder


def restore(folder: Path) -> None:
    """Make `bad` a sound model again."""
    shutil.rmtree(folder / "bad", ignore_errors=True)
    shutil.copytree(folder / "whole", folder / "bad")


@st.composite
def broken_json(draw: st.DrawFn, text: str) -> str:
    """A JSON file in which values are others, keys are added, or pieces of the text are."""
    if draw(st.integers(0, 4)) == 0:
        return draw(broken_text(text))
    return json.dumps(draw(changed(json.loads(text), ODD)))


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


@given(text=broken_json(cut_config("ja")), words=st.sampled_from([MERGE, ASK_TEXT]))
@bounded()
def test_any_configuration_of_a_language_model_is_answered(text: str, words: tuple[str, ...], llm: Path):
    restore(llm)
    write(llm / "bad" / "config.json", text)
    assert_answered(*words, folder=llm)


@given(
    text=broken_json(cut_config("vlm")), words=st.sampled_from([CHECK, MERGE, ASK_PICTURE, ASK_PICTURE, CHECK_AND_ASK])
)
@bounded()
def test_any_configuration_of_a_vision_model_is_answered(text: str, words: tuple[str, ...], vlm: Path):
    restore(vlm)
    write(vlm / "bad" / "config.json", text)
    assert_answered(*words, folder=vlm)


@st.composite
def broken_weights(draw: st.DrawFn) -> tuple[bytes, bytes, int | None]:
    """A header, the tensors' bytes and the header's length as it is written, at least one of them wrong."""
    header, data = WEIGHTS
    text, length = json.dumps(header), None
    kind = draw(st.sampled_from(["values", "values", "values", "names", "text", "deep", "length", "data"]))
    if kind == "values":
        few = draw(changed({name: dict(header[name]) for name in draw(some_names())}, ODD))
        text = json.dumps(header | few)
    elif kind == "names":
        names = draw(st.dictionaries(some_name(), ODD_NAMES, min_size=1, max_size=3))
        text = json.dumps({names.get(name, name): row for name, row in header.items()})
    elif kind == "text":
        text = draw(broken_text(text))
    elif kind == "deep":
        text = draw(st.sampled_from(["[", '{"a":', '{"__metadata__":{"a":'])) * draw(st.integers(1, 20_000))
    elif kind == "length":
        length = draw(st.sampled_from([0, 1, len(text) - 1, len(text) + 8, 10**8, 2**63, -1]))
    else:
        cut = draw(st.integers(0, len(data)))
        data = draw(st.sampled_from([data[:cut], data + data[:cut], b""]))
    return text.encode("utf-8", "surrogatepass"), data, length


WEIGHTS = cut_weights("ja")
ODD_NAMES = st.text(max_size=10) | st.sampled_from(
    [f"model.layers.{'9' * digits}.mlp.up_proj.weight" for digits in (1, 3, 6, 7, 5000)]
    + ["model.layers.007.mlp.up_proj.weight", "model.layers.٣.mlp.up_proj.weight", "model.mm_projector.0.weight", TABLE]
)


def some_name() -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(WEIGHTS[0]))


def some_names() -> st.SearchStrategy[list[str]]:
    return st.lists(some_name(), min_size=1, max_size=3)


@given(weights=broken_weights(), words=st.sampled_from([MERGE, ASK_TEXT]))
@bounded()
def test_any_header_of_weights_is_answered(weights: tuple[bytes, bytes, int | None], words: tuple[str, ...], llm: Path):
    restore(llm)
    join_weights(llm / "bad" / "model.safetensors", *weights)
    assert_answered(*words, folder=llm)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The language model in several shards, and beside it a file that is none of them."""
    folder = place(tmp_path_factory.mktemp("sharded"), "ja", "llm")
    tensors = Checkpoint.open(folder / "whole")
    infos = [TensorInfo(key, tensors.shape(key), tensors.dtype(key)) for key in tensors.keys()]
    with CheckpointWriter(folder / "new", infos, SHARD_BYTES) as writer:
        for key in tensors.keys():
            writer.write(key, tensors.tensor(key))
    (folder / "bad" / "model.safetensors").unlink()
    for path in (folder / "new").iterdir():
        path.rename(folder / "bad" / path.name)
    (folder / "bad" / "other.safetensors").write_bytes((folder / "bad" / FIRST_SHARD).read_bytes())
    return folder


SHARD_BYTES = 2**18
FIRST_SHARD = "model-00001-of-00004.safetensors"
SHARD_NAMES = st.sampled_from(
    ["other.safetensors", "../x.safetensors", "/etc/passwd", "a\0.safetensors", f"{'a' * 300}.safetensors", "."]
    + [f"model-0000{number}-of-00004.safetensors" for number in range(1, 6)]
)


@given(data=st.data(), words=st.sampled_from([MERGE, ASK_TEXT]))
@bounded()
def test_any_index_of_shards_is_answered(data: st.DataObject, words: tuple[str, ...], sharded: Path):
    path = sharded / "bad" / "model.safetensors.index.json"
    whole = sharded / "whole.json"
    if not whole.exists():
        whole.write_bytes(path.read_bytes())
    text = whole.read_text(encoding="utf-8")
    if data.draw(st.integers(0, 3)) == 0:
        write(path, data.draw(broken_text(text)))
    else:
        write(path, json.dumps(data.draw(changed(json.loads(text), ODD | SHARD_NAMES))))
    assert_answered(*words, folder=sharded)


TOKENIZERS = ["tokenizer.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
ADDED = ["added_tokens.json", "special_tokens_map.json", "vocab.json", "converted_from.json", "chat_template.json"]


@given(data=st.data(), words=st.sampled_from([MERGE, ASK_TEXT, ASK_TEXT]))
@bounded()
def test_any_tokenizer_is_answered(data: st.DataObject, words: tuple[str, ...], llm: Path):
    restore(llm)
    name = data.draw(st.sampled_from(TOKENIZERS + ADDED))
    if name in ADDED:
        write(llm / "bad" / name, json.dumps(data.draw(ODD | st.dictionaries(st.text(max_size=5), ODD))))
    else:
        write(llm / "bad" / name, data.draw(broken_json(sound("ja", name))))
    assert_answered(*words, folder=llm)


@given(data=st.data(), words=st.sampled_from([CHECK] * 4 + [ASK_PICTURE] * 3 + [CHECK_AND_ASK]))
@bounded()
def test_any_processor_is_answered(data: st.DataObject, words: tuple[str, ...], vlm: Path):
    restore(vlm)
    name = data.draw(st.sampled_from(["processor_config.json", "processor_config.json", "tokenizer_config.json"]))
    write(vlm / "bad" / name, data.draw(broken_json(sound("vlm", name))))
    assert_answered(*words, folder=vlm)


@cache
def sound(model: str, name: str) -> str:
    """The text of a zoo model's file."""
    return (FOLDER / model / name).read_text(encoding="utf-8")
