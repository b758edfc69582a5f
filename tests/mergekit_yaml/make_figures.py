"""Asks mergekit itself what its parameters come to, tensor by tensor: run with the Python of mergekit's environment.

    PATH/bin/python tests/mergekit_yaml/make_figures.py

Writes figures.json beside this file: {recipe: {tensor: {model: {parameter: value}}}}, for models of six layers.
"""

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from mergekit.architecture import arch_info_for_config
from mergekit.config import MergeConfiguration
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from transformers import MistralConfig, MistralForCausalLM

HERE = Path(__file__).parent
LAYERS = 6
KEPT = ("weight", "density", "t")


def make_models(folder: Path) -> None:
    """Three tiny models of one shape."""
    for name in ("base", "one", "two"):
        config = MistralConfig(
            vocab_size=8,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
        MistralForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / name)


def parameters_of(text: str) -> dict[str, dict[str, dict[str, float]]]:
    """What mergekit plans for every tensor."""
    merge = MergeConfiguration.model_validate(yaml.safe_load(text))
    config = merge.referenced_models()[0].config()
    planner = MergePlanner(merge, arch_info_for_config(config), MergeOptions(), config)
    planner._plan()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for weight, task in planner._tensors:
        own = {str(model): dict(values) for model, values in task.input_parameters.items()}
        shared = dict(task.parameters)
        found[weight.name] = {
            model: {key: value for key, value in (shared | values).items() if key in KEPT}
            for model, values in own.items()
        }
    return found


def main() -> None:
    """Make the models in a temporary folder, where the recipes' model names lead."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted((HERE / "figures").glob("*.yml"))}
    with tempfile.TemporaryDirectory() as name:
        make_models(Path(name))
        os.chdir(name)
        figures = {stem: parameters_of(text) for stem, text in texts.items()}
    content = {"mergekit": version("mergekit"), "layers": LAYERS, "figures": figures}
    (HERE / "figures.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
