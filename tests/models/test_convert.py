"""`evovlm convert`: pickle checkpoints become safetensors; what cannot, is refused, and nothing is half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evovlm.models.checkpoint import Checkpoint
from evovlm.models.open_model import open_model
from tests.command import Companion, Done, evovlm_here, here
from tests.hub_layouts import make_tokenizer, save_llm
from tests.models.pickled import ROWS, Calls, collisions, pickled, save_pickled, write_shards, write_zip
from tests.tasks.hub_server import hub_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def convert(*words: str, folder: Path) -> Done:
    done = evovlm_here("convert", *words, folder=folder)
    assert "Traceback" not in done.stderr
    return done


def refused(*words: str, folder: Path) -> str:
    """The sentence with which a conversion is refused; it leaves nothing behind."""
    before = sorted(folder.iterdir())
    done = convert(*words, folder=folder)
    assert done.returncode == 2, done.stdout
    assert sorted(folder.iterdir()) == before
    return " ".join(done.stderr.split())


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_converted_is_the_same_model(tmp_path: Path, legacy: bool):
    tensors = save_pickled(tmp_path / "old", shards=3, legacy=legacy)
    (tmp_path / "old" / "README.md").write_text("---\nlicense: mit\n---\n")
    done = convert("old", "new", "--max-shard-gb", "0.0002", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    new = tmp_path / "new"
    names = sorted(path.name for path in new.glob("*.safetensors"))
    assert names == [f"model-{n:05d}-of-{len(names):05d}.safetensors" for n in range(1, len(names) + 1)]
    assert len(names) > 1
    assert not list(new.glob("*.bin*"))
    checkpoint = Checkpoint.open(new)
    assert set(checkpoint.keys()) == set(tensors)
    assert all(torch.equal(checkpoint.tensor(key), tensors[key]) for key in tensors)
    loaded, report = AutoModelForCausalLM.from_pretrained(new, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(torch.equal(value, tensors[key]) for key, value in loaded.state_dict().items())
    assert (
        AutoTokenizer.from_pretrained(new)("a b").input_ids
        == AutoTokenizer.from_pretrained(tmp_path / "old")("a b").input_ids
    )
    assert (new / "README.md").read_text() == (tmp_path / "old" / "README.md").read_text()


def test_a_model_of_the_hubs_cache_is_converted_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """WizardMath's layout: links into a store of blobs, two shards."""
    save_pickled(tmp_path / "old", shards=2)
    repository = tmp_path / "hub" / "models--owner--name"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(sorted((tmp_path / "old").iterdir())):
        path.rename(repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(repository / "blobs" / str(number))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    done = convert("owner/name", "new", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not any(path.is_symlink() for path in (tmp_path / "new").iterdir())
    origin = json.loads((tmp_path / "new" / "converted_from.json").read_text())
    assert (origin["model"], origin["commit"], len(origin["files"])) == ("owner/name", COMMIT, 2)
    assert open_model("math", "new", None, tmp_path).layout.kind == "llm"
    assert "not in the local hub cache" in refused("owner/absent", "other", folder=tmp_path)
    # With --download too, while there is no connection.
    assert convert("owner/name", "again", "--download", folder=tmp_path).returncode == 0
    assert "check the network" in refused("owner/absent", "other", "--download", folder=tmp_path)


def test_the_head_is_left_out_where_the_configuration_ties_it_and_written_where_it_does_not(tmp_path: Path):
    for tied in (True, False):
        folder = tmp_path / f"old-{tied}"
        tensors = save_pickled(folder, tie_word_embeddings=tied)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        write_shards(folder, dict(sorted(tensors.items())), 1)
        done = convert(f"old-{tied}", f"new-{tied}", folder=tmp_path)
        assert ("lm_head.weight left out (tied to the embeddings)" in done.stdout) == tied
        keys = Checkpoint.open(tmp_path / f"new-{tied}").keys()
        assert ("lm_head.weight" in keys, "model.embed_tokens.weight" in keys) == (not tied, True)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / f"new-{tied}")
        assert torch.equal(loaded.lm_head.weight, tensors["model.embed_tokens.weight"])


def test_code_that_a_configuration_names_is_neither_run_nor_passed_on(tmp_path: Path):
    save_pickled(tmp_path / "old")
    ran = tmp_path / "ran"
    (tmp_path / "old" / "evil.py").write_text(f"open({str(ran)!r}, 'w')")
    code = {"auto_map": {"AutoConfig": "evil.Config"}, "custom_pipelines": {"evil": {"impl": "evil.Pipeline"}}}
    for name in ("config.json", "tokenizer_config.json"):
        path = tmp_path / "old" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | code))
    done = convert("old", "new", folder=tmp_path)
    assert done.stdout.count("auto_map and custom_pipelines left out") == 2
    assert "evil" not in (tmp_path / "new" / "config.json").read_text()
    assert json.loads((tmp_path / "new" / "config.json").read_text())["model_type"] == "mistral"
    assert not (tmp_path / "new" / "evil.py").exists()
    assert not ran.exists()


def test_a_dry_run_reads_the_files_and_writes_nothing(tmp_path: Path):
    tensors = save_pickled(tmp_path / "old")
    done = convert("old", "new", "--dry-run", folder=tmp_path)
    assert done.returncode == 0
    assert f"write {len(tensors)} tensors" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    write_zip(tmp_path / "old" / "pytorch_model.bin", pickled({"w": Calls(os.system, "true")}))
    assert "asks for posix.system" in refused("old", "new", "--dry-run", folder=tmp_path)


@pytest.mark.parametrize("name", ["../old/pytorch_model-00001-of-00002.bin", "/etc/passwd", 3, "..", "x.safetensors"])
def test_an_index_that_points_out_of_the_folder_is_refused(tmp_path: Path, name: object):
    save_pickled(tmp_path / "old", shards=2)
    index = {"weight_map": {"w": name}}
    (tmp_path / "old" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "which is not a .bin file in this folder" in refused("old", "new", folder=tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": {}}', '{"weight_map": 3}', "[" * 100_000])
def test_a_damaged_index_is_refused(tmp_path: Path, text: str):
    save_pickled(tmp_path / "old", shards=2)
    (tmp_path / "old" / "pytorch_model.bin.index.json").write_text(text)
    assert "pytorch_model.bin.index.json" in refused("old", "new", folder=tmp_path)


def test_files_and_index_that_disagree_are_refused(tmp_path: Path):
    tensors = save_pickled(tmp_path / "old", shards=2)
    index = tmp_path / "old" / "pytorch_model.bin.index.json"
    good = index.read_text()
    index.write_text(good.replace('"model.norm.weight"', '"model.norm.bias"'))
    assert "the index names 1 tensors that are not in their shards" in refused("old", "new", folder=tmp_path)
    index.write_text(good)
    second = tmp_path / "old" / "pytorch_model-00002-of-00002.bin"
    torch.save(torch.load(second) | {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"]}, second)
    assert "is in pytorch_model-00001-of-00002.bin too" in refused("old", "new", folder=tmp_path)


def test_what_lacks_a_file_has_an_odd_one_or_needs_no_conversion_is_refused(tmp_path: Path):
    save_pickled(tmp_path / "old", shards=2)
    (tmp_path / "there").mkdir()
    assert "there exists" in refused("old", "there", folder=tmp_path)
    second = tmp_path / "old" / "pytorch_model-00002-of-00002.bin"
    second.unlink()
    assert "1 of 2 shards are missing (pytorch_model-00002-of-00002.bin)" in refused("old", "new", folder=tmp_path)
    os.mkfifo(second)
    assert "it is a pipe, not a file" in refused("old", "new", folder=tmp_path)
    save_llm(tmp_path / "safe", rows=ROWS, tokenizer=make_tokenizer(ROWS))
    assert "safe has safetensors already; use safe as it is" in refused("safe", "new", folder=tmp_path)
    (tmp_path / "safe" / "model.safetensors").rename(tmp_path / "safe" / "consolidated.00.pth")
    told = refused("safe", "new", folder=tmp_path)
    assert "neither pytorch_model.bin nor pytorch_model.bin.index.json; it has consolidated.00.pth" in told


def test_a_damaged_second_shard_leaves_nothing_of_the_first(tmp_path: Path):
    tensors = save_pickled(tmp_path / "old", shards=2)
    second = tmp_path / "old" / "pytorch_model-00002-of-00002.bin"
    content = bytearray(second.read_bytes())
    content[content.index(tensors["model.norm.weight"].view(torch.uint8).numpy().tobytes()) + 5] ^= 16
    second.write_bytes(content)
    assert "differs from its checksum" in refused("old", "new", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_conversion_that_is_killed_leaves_no_folder_and_no_process(tmp_path: Path, sign: signal.Signals):
    save_pickled(tmp_path / "old")
    tensors = {f"model.layers.{n}.w": torch.zeros(2**22) for n in range(40)}  # 640 MiB
    torch.save(tensors, tmp_path / "old" / "pytorch_model.bin")
    command = [sys.executable, "-P", "-m", "evovlm", "convert", "old", "new"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".new.*.partial/model.safetensors")):
        assert process.poll() is None
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(sign)
    assert process.wait(timeout=60) == (-sign if sign is signal.SIGKILL else 130)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert not (tmp_path / "new").exists()
    assert convert("old", "new", folder=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"], (
        "the scratch folder of the killed run too"
    )
    assert len(Checkpoint.open(tmp_path / "new").keys()) == len(tensors)


@pytest.mark.slow
def test_a_process_that_is_busy_reading_ends_with_a_killed_conversion(tmp_path: Path):
    """It does not look at its pipe while a pickle keeps it busy."""
    save_pickled(tmp_path / "old")
    write_zip(tmp_path / "old" / "pytorch_model.bin", collisions(200_000))
    command = [sys.executable, "-P", "-m", "evovlm", "convert", "old", "new"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = psutil.Process(process.pid)
    while not (children := started.children()) or children[0].cpu_times().user < 6:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.slow
def test_no_more_than_a_tensor_is_held_in_memory(tmp_path: Path):
    save_pickled(tmp_path / "old")
    save_pickled(tmp_path / "first")
    torch.save({f"w{n}": torch.zeros(2**22) for n in range(40)}, tmp_path / "old" / "pytorch_model.bin")  # 640 MiB
    body = """
from pathlib import Path
import evovlm.cli, evovlm.models.convert, transformers
def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
def convert(*words):
    try:
        evovlm.cli.main(["convert", *words])
    except SystemExit as stop:
        assert not stop.code
convert("first", "done")  # loads libraries
before = peak()
convert("old", "new")
print((peak() - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", body], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 100  # MiB


@pytest.mark.slow
def test_a_checkpoint_of_the_hub_is_fetched_without_what_it_does_not_need(tmp_path: Path):
    root = tmp_path / "hub"
    save_pickled(root / "owner" / "single")
    save_pickled(root / "owner" / "sharded", shards=2)
    save_llm(root / "owner" / "safe", rows=ROWS, tokenizer=make_tokenizer(ROWS))
    for name in ("training_args.bin", "optimizer.pt"):
        (root / "owner" / "single" / name).write_bytes(b"never fetched")
    (root / "owner" / "safe" / "pytorch_model.bin").write_bytes(b"never fetched")
    sources = "".join(f"  - {{name: {name}, model: owner/{name}}}\n" for name in ("single", "safe", "sharded"))
    (tmp_path / "recipe.yaml").write_text(f"kind: llm\nmethod: linear\nsources:\n{sources}")

    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    with hub_of(root) as (address, asked), Companion(tmp_path, here() | home | {"HF_ENDPOINT": address}) as other:

        def run(*words: str) -> Done:
            done = other.evovlm(*words, "--download")
            return Done(done.returncode, done.stdout, " ".join(done.stderr.split()))

        told = run("recipe", "check", "recipe.yaml")
        assert told.returncode == 2
        assert "2 models cannot be opened: source single:" in told.stderr
        for name in ("single", "sharded"):
            assert f"`evovlm convert owner/{name} OUT --download`" in told.stderr
        assert "safe OUT" not in told.stderr
        assert not any(".bin" in path and "json" not in path for path in asked)
        before = len(asked)
        told = run("convert", "owner/safe", "new")
        assert "owner/safe has safetensors on the hub; use owner/safe as it is" in told.stderr
        for name in ("single", "sharded"):
            done = run("convert", f"owner/{name}", name)
            assert done.returncode == 0, done.stderr
            assert Checkpoint.open(tmp_path / name).keys()
        assert not any(
            "training_args" in path or "optimizer" in path or "safe/resolve/" in path for path in asked[before:]
        )


@pytest.mark.parametrize("size", ["nan", "inf", "-inf", "0", "-1", "1e999"])
def test_a_size_of_files_that_is_no_size_is_refused(tmp_path: Path, size: str):
    assert "--max-shard-gb" in refused("old", "new", "--max-shard-gb", size, folder=tmp_path)


def test_the_layout_of_llavas_authors_is_told(tmp_path: Path):
    tensors = save_pickled(tmp_path / "old")
    write_shards(tmp_path / "old", tensors | {"model.mm_projector.0.bias": torch.ones(2)}, 1)
    done = convert("old", "new", "--dry-run", folder=tmp_path)
    assert done.returncode == 0
    assert "this checkpoint is in LLaVA's authors' own layout" in " ".join(done.stderr.split())


def test_damage_is_not_passed_on_without_a_word(tmp_path: Path):
    folder = tmp_path / "pickled"
    save_pickled(folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del weights["model.layers.1.mlp.up_proj.weight"]
    torch.save(weights, folder / "pytorch_model.bin")
    done = convert("pickled", "lacking", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lacks 1 weight that its configuration asks for: model.layers.1.mlp.up_proj.weight" in done.stdout
    weights["model.norm.weight"][0] = float("nan")
    torch.save(weights, folder / "pytorch_model.bin")
    assert "pytorch_model.bin: model.norm.weight holds NaN" in refused("pickled", "broken", folder=tmp_path)
    assert not (tmp_path / "broken").exists()
