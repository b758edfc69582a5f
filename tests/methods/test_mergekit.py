"""Agreement with mergekit 0.1.x, whose results and masks `evovlm_benchmarks.make_mergekit_figures` recorded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from evovlm.methods import METHODS, Operand, merge_tensor, resolve_options
from evovlm.methods._drop import keep_mask
from evovlm.methods.draws import Draws
from evovlm.methods.operand import TaskVector
from tests.float64_reference import ELECTING

FOLDER = Path(__file__).parent.parent / "fixtures" / "mergekit"
FIGURES = load_file(FOLDER / "figures.safetensors")
CASES = list(enumerate(json.loads((FOLDER / "figures.json").read_text())["cases"]))
DOCUMENTS = Path(__file__).parent.parent / "recipe" / "mergekit" / "merges.yml"
TOLERANCE = 1e-6


def case_id(case):
    number, content = case
    return f"{number}-{content['method']}-{content['input']}-{len(content['weights'])}"


def options_of(case):
    given = case["parameters"]
    rescale = None if "rescale" not in given else "l1" if given["rescale"] else "none"
    return resolve_options(
        case["method"],
        given.get("normalize"),
        rescale,
        given.get("lambda", 1.0),
        given.get("epsilon", 0.15),
        given.get("gamma", 0.01),
    )


def operands_of(number, case, *, masked=True):
    return [
        Operand(
            FIGURES[f"{case['input']}/source{index}"],
            weight,
            density,
            Draws(0, str(index), "w"),
            mask=FIGURES.get(f"{number}/mask{index}") if masked else None,
        )
        for index, (weight, density) in enumerate(zip(case["weights"], case["densities"], strict=True))
    ]


def test_every_method_that_mergekit_has_is_compared():
    # The merges of the documents are compared in tests/recipe/mergekit/test_merges.py.
    documents = yaml.safe_load(DOCUMENTS.read_text(encoding="utf-8"))
    compared = {case["method"] for _, case in CASES} | {content["merge_method"] for content in documents.values()}
    assert compared == {name for name, row in METHODS.items() if row.mergekit is not None}


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_agrees_with_mergekit_under_its_masks(case):
    number, content = case
    base = FIGURES[f"{content['input']}/base"]
    operands = operands_of(number, content)
    if content["method"] not in ("linear", "slerp", "passthrough"):
        dropped = sum(operand.mask is not None for operand in operands)
        assert dropped in (0, len(operands))
    merged = merge_tensor(content["method"], base, operands, options_of(content), dtype=torch.float32)
    expected = FIGURES[f"{number}/merged"]
    # Relative to the operands: where base and task vectors cancel, the result is smaller than its error.
    scale = torch.stack([expected.abs(), base.abs(), *(o.tensor.abs() for o in operands)]).amax(0)
    assert float(((merged - expected).abs() / scale).max()) <= TOLERANCE


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if case[1]["method"] in ("ties", "breadcrumbs", "breadcrumbs_ties") and case[1]["input"] != "coarse"
    ],
    ids=case_id,
)
def test_keeps_the_elements_that_mergekit_keeps(case):
    number, content = case
    base = FIGURES[f"{content['input']}/base"].reshape(-1)
    for index, operand in enumerate(operands_of(number, content, masked=False)):
        if operand.density >= 1:
            continue
        found = keep_mask(TaskVector(base, operand, 100), METHODS[content["method"]].drop, options_of(content))
        assert np.array_equal(found, FIGURES[f"{number}/mask{index}"].reshape(-1).numpy())


def test_the_figures_reach_every_branch():
    methods = {(case["method"], "rescale" in case["parameters"]) for _, case in CASES}
    assert {(method, True) for method in ELECTING} <= methods
    assert {len(case["weights"]) for _, case in CASES} == {1, 2, 3}
    assert any(case["input"] == "coarse" for _, case in CASES)
