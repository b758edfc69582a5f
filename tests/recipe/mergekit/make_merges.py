"""Merges tiny models with mergekit itself, as a user would: run with the Python of mergekit's environment.

    PATH/bin/python tests/recipe/mergekit/make_merges.py

Every document of merges.yml is run by `mergekit-yaml`; merges.safetensors, beside it, gets all values of each merge in
one row: the tensors flat, in the order of their names.
"""

import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import mergekit.merge
import mergekit.tokenizer  # noqa: F401
import torch
import transformers.models.mistral.modeling_mistral  # noqa: F401
import yaml
from mergekit.scripts import run_yaml
from safetensors.torch import load_file, save_file
from tiny_models import save_models

HERE = Path(__file__).parent


def merge(folder: Path, name: str, text: str) -> torch.Tensor:
    """What `mergekit-yaml` makes of a document, in a process forked from this one, which has imported mergekit."""
    (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sys.argv = ["mergekit-yaml", f"{name}.yml", f"out-{name}", "--no-copy-tokenizer", "--quiet"]
        try:
            run_yaml.main()
        except SystemExit as end:
            os._exit(int(end.code or 0))  # at once: the models belong to the process that forked
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(f"{name}: mergekit stopped")
    tensors: dict[str, torch.Tensor] = {}
    for path in (folder / f"out-{name}").glob("*.safetensors"):
        tensors |= load_file(path)
    return torch.cat([tensors[key].float().flatten() for key in sorted(tensors)])


def main() -> None:
    """Make the models in a temporary folder, where the documents' model names lead."""
    documents = yaml.safe_load((HERE / "merges.yml").read_text(encoding="utf-8"))
    found = {}
    with tempfile.TemporaryDirectory() as name:
        save_models(Path(name))
        for title, content in documents.items():
            found[title] = merge(Path(name), title, yaml.safe_dump(content, sort_keys=False))
            print(title, tuple(found[title].shape), flush=True)
    save_file(found, HERE / "merges.safetensors", metadata={"mergekit": version("mergekit")})


if __name__ == "__main__":
    main()
