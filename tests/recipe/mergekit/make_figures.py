"""Asks mergekit itself what its parameters come to, tensor by tensor: run with the Python of mergekit's environment.

    PATH/bin/python tests/recipe/mergekit/make_figures.py

Writes figures.json beside this file: `figures`, {recipe: {tensor: {model: {parameter: value}}}}, and `stacks`,
{recipe: {tensor: [model, its tensor]}}, for models of six layers.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

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


def plan(text: str) -> Iterator[tuple[str, Any]]:
    """Name of each tensor and the task that mergekit makes it with."""
    merge = MergeConfiguration.model_validate(yaml.safe_load(text))
    config = merge.referenced_models()[0].config()
    planner = MergePlanner(merge, arch_info_for_config(config), MergeOptions(), config)
    planner._plan()
    yield from ((weight.name, task) for weight, task in planner._tensors)


def origins_of(text: str) -> dict[str, tuple[str, str]]:
    """Which model's which tensor a stack takes."""
    found = {}
    for name, task in plan(text):
        ((model, weight),) = task.gather_tensors.weight_info.items()
        found[name] = (str(model), weight.name)
    return found


def parameters_of(text: str) -> dict[str, dict[str, dict[str, float]]]:
    """What mergekit plans for every tensor."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, task in plan(text):
        own = {str(model): dict(values) for model, values in task.input_parameters.items()}
        shared = dict(task.parameters)
        found[name] = {
            model: {key: value for key, value in (shared | values).items() if key in KEPT}
            for model, values in own.items()
        }
    return found


def main() -> None:
    """Make the models in a temporary folder, where the recipes' model names lead."""
    figures, stacks = (
        {path.stem: path.read_text(encoding="utf-8") for path in sorted((HERE / folder).glob("*.yml"))}
        for folder in ("figures", "stacks")
    )
    content: dict[str, Any] = {"mergekit": version("mergekit"), "layers": LAYERS}
    with tempfile.TemporaryDirectory() as name:
        make_models(Path(name))
        os.chdir(name)
        content["figures"] = {stem: parameters_of(text) for stem, text in figures.items()}
        content["stacks"] = {stem: origins_of(text) for stem, text in stacks.items()}
    (HERE / "figures.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
