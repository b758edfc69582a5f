"""Vocabulary rows that only the owner has, and rows that a source or the base lacks, by every method and policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evovlm.merging.assembly import Assembly, assemble, tower_tensor
from evovlm.merging.live.cpu import ResidentMerger
from evovlm.methods import METHODS
from evovlm.models.layouts import VOCABULARY_TENSORS
from evovlm.recipe.schema import Recipe
from tests.hub_layouts import make_tokenizer, save_llm, save_vlm
from tests.methods.merging import as_many

ROWS, OWNER_ROWS = 600, 664  # <image>, <pad> and 62 rows of padding, as LLaVA has them
POLICIES = ("match", "shared", "position", "tower")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """LLaVA is stored as float16, Mistral as bfloat16: not every row of the one can be written as the other's."""
    folder = tmp_path_factory.mktemp("models")
    plain = make_tokenizer(ROWS)
    base = save_llm(folder / "base", rows=ROWS, tokenizer=plain, seed=1)
    tokenizer = make_tokenizer(ROWS, added=("<image>", "<pad>"))
    return {
        "base": base,
        "ja": save_llm(folder / "ja", rows=ROWS, tokenizer=plain, ancestor=base, seed=2),
        "vlm": save_vlm(
            folder / "vlm", rows=OWNER_ROWS, tokenizer=tokenizer, ancestor=base, seed=3, dtype=torch.float16
        ),
        # Twenty tokens fewer, the last of the base's.
        "short": save_llm(folder / "short", rows=ROWS - 20, tokenizer=make_tokenizer(ROWS - 20), seed=4),
    }


def assembly(models: dict[str, Path], method: str, sources: Sequence[str], **changes: Any) -> Assembly:
    content: dict[str, Any] = {
        "kind": "vlm",
        "base": {"model": str(models["base"])},
        "sources": [{"name": name, "model": str(models[name])} for name in sources],
        "owner": "vlm",
        "method": method,
        "parameters": {
            name: {"weight": weight, "density": 0.5} for name, weight in zip(sources, (0.3, 0.9, 0.4), strict=False)
        },
        "options": {"normalize": False},
        "dtype": "float32",
    }
    if method == "passthrough":
        content["slices"] = [{"source": "ja", "layers": [0, 2]}]
    return assemble(Recipe.model_validate(content | changes), Path())


def merged(plan: Assembly) -> dict[str, torch.Tensor]:
    return {job.name: plan.merge(job) for job in plan.jobs if job.name in VOCABULARY_TENSORS}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_rows_that_only_the_owner_has_are_kept_bit_for_bit(models: dict[str, Path], method: str, policy: str):
    plan = assembly(models, method, as_many(method, ("vlm", "ja")), vocab=policy)
    for name, tensor in merged(plan).items():
        mine = tower_tensor(plan.owner, name).float()
        first = 0 if policy == "tower" else ROWS
        assert torch.equal(tensor[first:], mine[first:]), name
        assert first == 0 or not torch.equal(tensor[:ROWS], mine[:ROWS])


@pytest.mark.parametrize("method", ["linear", "slerp", "model_stock", "dare_ties"])
def test_the_resident_model_keeps_them_too(models: dict[str, Path], method: str):
    plan = assembly(models, method, ("vlm", "ja"))
    live = {job.name: torch.nn.Parameter(torch.zeros(job.shape)) for job in plan.jobs if job.name in VOCABULARY_TENSORS}
    ResidentMerger(plan, live).merge(plan.recipe)
    for name, tensor in merged(plan).items():
        assert torch.equal(live[name], tensor), name


def test_a_row_that_a_source_lacks_gets_what_the_others_learned(models: dict[str, Path]):
    plan = assembly(models, "task_arithmetic", ("vlm", "short"), vocab="shared")
    key, rows = VOCABULARY_TENSORS[0], slice(ROWS - 20, ROWS)
    mine = tower_tensor(plan.owner, key)[rows].bfloat16().float()  # rounded as the base is stored
    assert plan.base is not None
    root = tower_tensor(plan.base, key).float()[rows]
    expected = root + 0.3 * (mine - root)
    assert torch.allclose(merged(plan)[key][rows], expected, rtol=0, atol=1e-7)


def test_a_row_that_the_base_lacks_is_the_owners(models: dict[str, Path]):
    plan = assembly(models, "dare_ties", ("vlm", "ja"), base={"model": str(models["short"])}, vocab="shared")
    for name, tensor in merged(plan).items():
        assert torch.equal(tensor[ROWS - 20 :], tower_tensor(plan.owner, name).float()[ROWS - 20 :]), name


def test_where_the_base_is_the_owner_a_row_that_any_source_has_is_merged(models: dict[str, Path], tmp_path: Path):
    marks = ("<image>", "<pad>")
    whole, short = (make_tokenizer(rows, added=marks) for rows in (ROWS, ROWS - 20))
    wide = save_llm(tmp_path / "wide", rows=OWNER_ROWS, tokenizer=whole, seed=6, dtype=torch.float32)
    marked = save_llm(tmp_path / "marked", rows=ROWS - 18, tokenizer=short, seed=5)
    plan = assembly(
        models | {"marked": marked},
        "task_arithmetic",
        ("ja", "marked"),
        kind="llm",
        base={"model": str(wide)},
        owner=None,
        vocab="shared",
    )
    assert plan.owner is plan.base
    for name, tensor in merged(plan).items():
        same = (tensor == tower_tensor(plan.owner, name).float()).all(dim=1)
        # `marked` lacks the last 20 ordinary tokens, and `ja` the two marks; both lack the padding.
        assert not same[: ROWS + 2].any(), name
        assert same[ROWS + 2 :].all(), name


@pytest.mark.parametrize("method", ["ties", "dare_ties", "della", "breadcrumbs", "dare_linear"])
def test_a_row_that_the_base_lacks_says_nothing_about_other_rows(models: dict[str, Path], tmp_path: Path, method: str):
    """Its elements take no part in thresholds, rescaling and signs: with other values there, all other rows stay."""
    loud = save_llm(tmp_path / "ja", rows=ROWS, tokenizer=make_tokenizer(ROWS), ancestor=models["base"], seed=2)
    weights = load_file(loud / "model.safetensors")
    for name in VOCABULARY_TENSORS:
        weights[name][ROWS - 20 :] *= 100
    save_file(weights, loud / "model.safetensors", metadata={"format": "pt"})
    base = {"model": str(models["short"])}
    quiet = merged(assembly(models, method, ("vlm", "ja"), base=base, vocab="shared"))
    for name, tensor in merged(
        assembly(models | {"ja": loud}, method, ("vlm", "ja"), base=base, vocab="shared")
    ).items():
        assert torch.equal(tensor, quiet[name]), name


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_row_that_one_source_has_and_another_lacks_is_merged(models: dict[str, Path], method: str):
    plan = assembly(models, method, ("vlm", "ja", "short"), vocab="shared")
    for name, tensor in merged(plan).items():
        rows = slice(ROWS - 20, ROWS)
        assert not torch.equal(tensor[rows], tower_tensor(plan.owner, name).float()[rows]), name
        assert torch.equal(tensor[ROWS:], tower_tensor(plan.owner, name).float()[ROWS:]), name
