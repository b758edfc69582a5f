"""Generate reference figures for the merge methods: mergekit's results and masks on small tensors.

Run with this project's Python, giving the path of another Python that has mergekit 0.1.x:

    python -m evovlm_benchmarks.make_mergekit_figures --python MERGEKIT_VENV/bin/python

It writes `tests/fixtures/mergekit/figures.safetensors` and `figures.json`. mergekit is only called through its public
`merge_tensors`; the masks it draws are recorded when it applies them.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

OUT = Path(__file__).parent.parent.parent / "tests" / "fixtures" / "mergekit"
SHAPES = {"matrix": (12, 20), "tall": (30, 5), "vector": (64,), "coarse": (12, 20)}
SOURCES = 3
WEIGHTS = {2: [0.7, 0.45], 3: [0.7, 0.45, -0.2]}
DENSITIES = {2: [0.6, 0.35], 3: [0.6, 0.35, 0.8]}
SPARSE = {
    "ties": {},
    "dare_linear": {},
    "dare_ties": {},
    "della": {"epsilon": 0.12},
    "della_linear": {"epsilon": 0.12},
    "breadcrumbs": {"gamma": 0.05},
    "breadcrumbs_ties": {"gamma": 0.05},
}


def make_inputs() -> dict[str, Tensor]:
    """Random models: `INPUT/base` and `INPUT/source0` ...; `coarse` has values that bfloat16 represents exactly."""
    generator = torch.Generator().manual_seed(20240313)
    inputs = {}
    for name, shape in SHAPES.items():
        base = torch.randn(shape, generator=generator) * 0.05
        models = {"base": base}
        for index in range(SOURCES):
            models[f"source{index}"] = base + torch.randn(shape, generator=generator) * 0.01
        for key, tensor in models.items():
            inputs[f"{name}/{key}"] = tensor.bfloat16().float() if name == "coarse" else tensor
    return inputs


def make_cases() -> Iterator[dict[str, Any]]:
    """Every method that both tools have, with default and with changed options."""
    for name in SHAPES:
        for count in (2, 3):
            plain = {"input": name, "weights": WEIGHTS[count], "densities": [1.0] * count}
            yield {**plain, "method": "linear", "parameters": {}}
            yield {**plain, "method": "linear", "parameters": {"normalize": False}}
            yield {**plain, "method": "model_stock", "parameters": {}}
            yield {**plain, "method": "task_arithmetic", "parameters": {}}
            yield {**plain, "method": "task_arithmetic", "parameters": {"normalize": True, "lambda": 0.6}}
        yield {**plain, "method": "slerp", "weights": [0.65, 0.35], "densities": [1.0] * 2, "parameters": {"t": 0.35}}
        yield {**plain, "method": "passthrough", "weights": [1.0], "densities": [1.0], "parameters": {}}
        yield from sparse_cases(name)


def sparse_cases(name: str) -> Iterator[dict[str, Any]]:
    """The methods that drop elements."""
    for method, extra in SPARSE.items():
        for count in (2, 3):
            case = {"method": method, "input": name, "weights": WEIGHTS[count], "densities": DENSITIES[count]}
            yield {**case, "parameters": extra}
        yield {**case, "parameters": {**extra, "normalize": True, "rescale": True, "lambda": 0.8}}
        yield {**case, "parameters": {**extra, "normalize": False, "rescale": False}}
    for method in ("ties", "dare_ties"):
        yield {**case, "method": method, "densities": [1.0] * count, "parameters": {}}


def record_masks(masks: list[Tensor]) -> None:
    """Patch mergekit's sparsification to append every mask it applies to `masks`."""
    sparsify = importlib.import_module("mergekit.sparsify")
    apply = sparsify.rescaled_masked_tensor

    def recording(tensor: Tensor, mask: Tensor, *rest: Any, **options: Any) -> Tensor:
        masks.append(mask.bool().clone())
        result: Tensor = apply(tensor, mask, *rest, **options)
        return result

    setattr(sparsify, "rescaled_masked_tensor", recording)  # noqa: B010


def run(case: dict[str, Any], inputs: dict[str, Tensor]) -> Tensor:
    """mergekit's result for one case, float32."""
    merge_tensors = importlib.import_module("mergekit.merge_methods.api").merge_tensors
    method, name = case["method"], case["input"]
    sources = [inputs[f"{name}/source{index}"] for index in range(len(case["weights"]))]
    if method in ("linear", "passthrough", "slerp"):
        parameters = {**case["parameters"], **({"weight": case["weights"]} if method == "linear" else {})}
        first = 0 if method == "slerp" else None
        merged: Tensor = merge_tensors(sources, method, parameters=parameters, base_index=first)
        return merged
    parameters = dict(case["parameters"])
    if method != "model_stock":
        parameters["weight"] = case["weights"]
    if method in SPARSE:
        parameters["density"] = case["densities"]
    models = [inputs[f"{name}/base"], *sources]
    merged = merge_tensors(models, method, parameters=parameters, base_index=0)
    return merged


def make_figures(out: Path) -> None:
    """Run every case and write inputs, masks, results and the list of cases."""
    tensors, cases, masks = make_inputs(), [], list[Tensor]()
    inputs = dict(tensors)
    record_masks(masks)
    for number, case in enumerate(make_cases()):
        masks.clear()
        torch.manual_seed(number)  # mergekit draws from the global generator
        tensors[f"{number}/merged"] = run(case, inputs).contiguous().clone()
        for index, mask in enumerate(masks):
            tensors[f"{number}/mask{index}"] = mask.reshape(tensors[f"{number}/merged"].shape)
        cases.append(case)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "figures.safetensors")
    versions = {name: importlib.metadata.version(name) for name in ("mergekit", "torch")}
    text = json.dumps({"versions": versions, "cases": cases}, separators=(",", ":")).replace('{"method"', '\n{"method"')
    (out / "figures.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Parse arguments; rerun under mergekit's interpreter if `--python` is given, else do the work here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", type=Path, help="an interpreter with mergekit 0.1.x; default: this one")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.python is None:
        make_figures(arguments.out)
        return
    command = [str(arguments.python), __file__, "--out", str(arguments.out)]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
