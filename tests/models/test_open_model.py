import json
import shutil
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from evovlm.models.open_model import open_model, resolve_folder
from evovlm.system.errors import CheckpointError
from tests.cli.model_files import copy_model, join_weights, split_weights
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKENIZER = make_tokenizer(1000)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llm(tmp_path_factory.mktemp("models") / "llm", rows=1000, tokenizer=TOKENIZER, shards=2)


@pytest.fixture
def hub(tmp_path: Path, llm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds owner/name at one commit, its files linked into a store as the hub's client does."""
    cache = tmp_path / "hub"
    repository = cache / "models--owner--name"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for path in llm.iterdir():
        blob = repository / "blobs" / path.name
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(blob)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_folder_counts_from_the_root(llm: Path):
    model = open_model("ja", "llm", None, llm.parent)
    assert (model.label, model.folder, model.layout.kind) == ("ja", llm, "llm")
    assert model.tokens == TOKENIZER.get_vocab()
    assert model.text_config is model.config
    assert model.checkpoint.shape(model.tower["lm_head.weight"]) == (1000, 64)


def test_an_absolute_folder_needs_no_root(llm: Path):
    assert resolve_folder(str(llm), None, Path("/nowhere")) == llm


def test_a_hub_id_is_found_in_the_cache_by_branch_and_by_commit(hub: Path, tmp_path: Path):
    for revision in (None, "main", COMMIT):
        assert resolve_folder("owner/name", revision, tmp_path) == hub
    assert torch.is_tensor(open_model("ja", "owner/name", None, tmp_path).checkpoint.tensor("lm_head.weight"))


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("model", "revision"), [("owner/absent", None), ("owner/name", "f" * 40)])
def test_what_the_cache_lacks_is_told_with_the_command_that_fetches_it(
    tmp_path: Path, model: str, revision: str | None
):
    with pytest.raises(
        CheckpointError, match=rf"{model}.*not in the local hub cache; fetch it first with `hf download"
    ):
        resolve_folder(model, revision, tmp_path)


def test_an_unfinished_download_is_a_missing_shard(hub: Path, tmp_path: Path):
    (hub / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="1 of 2 shards are missing"):
        open_model("ja", "owner/name", None, tmp_path)


def test_the_refusal_of_pickled_weights_names_the_model_as_the_hub_does(hub: Path, tmp_path: Path):
    for path in hub.glob("*.safetensors*"):
        path.unlink()
    with pytest.raises(
        CheckpointError, match=r"has no model\.safetensors in the hub's cache.*hf download owner/name`, or"
    ):
        open_model("ja", "owner/name", None, tmp_path)
    (hub / "pytorch_model.bin.index.json").write_text("{}")  # all that `--download` fetches of such a repository
    with pytest.raises(CheckpointError, match=r"`evovlm convert owner/name OUT --revision main --download`, and name"):
        open_model("ja", "owner/name", "main", tmp_path)
    (hub / "pytorch_model-00001-of-00001.bin").write_bytes(b"never read")
    with pytest.raises(CheckpointError, match=r"^owner/name has only pickled weights.*`evovlm convert owner/name OUT`"):
        open_model("ja", "owner/name", None, tmp_path)


@pytest.mark.parametrize("model", ["./absent", "../absent", "absent", "a/b/c", "/absent"])
def test_a_folder_that_is_absent_is_named(tmp_path: Path, model: str):
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve_folder(model, None, tmp_path)


def test_code_that_a_config_asks_for_is_never_run(llm: Path, tmp_path: Path):
    folder = tmp_path / "remote"
    folder.mkdir()
    for path in llm.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((llm / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "auto_map" in open_model("remote", "remote", None, tmp_path).config
    assert not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules


def test_a_vision_language_model_has_its_text_configuration_apart(tmp_path: Path):
    save_vlm(tmp_path / "vlm", rows=1024, tokenizer=make_tokenizer(1000, added=("<image>",)))
    model = open_model("vlm", "vlm", None, tmp_path)
    assert (model.config["model_type"], model.text_config["model_type"]) == ("llava_next", "mistral")


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_config_that_cannot_be_read_is_named(llm: Path, tmp_path: Path, text: str | None):
    for path in llm.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").unlink()
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_model("ja", str(tmp_path), None, tmp_path)


def test_gguf_and_other_files_are_no_folders_of_a_checkpoint(tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "model.bin").write_bytes(b"x")
    for name, told in (
        ("model.gguf", "is in GGUF, a format of quantised"),
        ("model.bin", "is a file; name the folder"),
    ):
        with pytest.raises(CheckpointError, match=told):
            open_model("a", name, None, tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.bin").unlink()
    with pytest.raises(CheckpointError, match="has weights in GGUF"):
        open_model("a", ".", None, tmp_path)


def test_layers_that_are_not_numbered_without_gaps_are_refused(tmp_path: Path):
    folder = copy_model("ja", tmp_path / "bad")
    header, data = split_weights(folder / "model.safetensors")
    far = {
        name.replace("layers.7.", "layers.70.") if ".layers.7." in name else name: row for name, row in header.items()
    }
    join_weights(folder / "model.safetensors", json.dumps(far).encode(), data)
    with pytest.raises(CheckpointError, match="the files hold layer 70, but not layer 7"):
        open_model("a", "bad", None, tmp_path)


@pytest.mark.parametrize(
    ("model", "first", "second"),
    [
        ("vlm", "language_model.model.layers.0.input_layernorm.weight", "model.language_model."),
        ("vlm", "language_model.model.embed_tokens.weight", "model."),
        ("ja", "model.layers.0.input_layernorm.weight", "language_model.model."),
    ],
)
def test_one_tensor_under_two_names_is_refused(tmp_path: Path, model: str, first: str, second: str):
    folder = copy_model(model, tmp_path / "twice")
    tensors = load_file(folder / "model.safetensors")
    name = second + first.partition("model.")[2].removeprefix("model.")
    save_file(tensors | {name: tensors[first].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        open_model("a", "twice", None, tmp_path)
    told = str(caught.value)
    assert "one tensor under two names" in told
    assert first in told
    assert name in told


def test_a_key_without_a_name_says_nothing_about_inserted_layers(llm: Path, tmp_path: Path):
    folder = tmp_path / "odd"
    shutil.copytree(llm, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"": []}), encoding="utf-8")
    assert open_model("a", "odd", None, tmp_path).text_config["model_type"] == config["model_type"]
