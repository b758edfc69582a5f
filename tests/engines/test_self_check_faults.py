"""Engines that are right but for one thing, in every dtype and depth: the self-check notices each."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch.nn import functional

from evovlm.engines import _lean, _probes, _tower_view, hf
from evovlm.engines.hf import Engine
from evovlm.system.errors import CheckpointError
from tests.engine_families import FAMILIES, save_family, save_gemma3
from tests.hub_layouts import save_vlm
from tests.vlm_families import save_family as save_vlm_family

Patch = pytest.MonkeyPatch
GEMMA_LIKE = {"hidden_act": "silu", "hidden_activation": "silu"}


def of_tower(change: Callable[[Any], Any]) -> Callable[[Patch], None]:
    """A fault of the lean path's tower."""

    def inject(patch: Patch) -> None:
        view = hf.view_of

        def wrong(model: Any, decoder: Any) -> Any:
            return change(view(model, decoder))

        patch.setattr(hf, "view_of", wrong)

    return inject


def other_theta(tower: Any) -> Any:
    """Rotary frequencies of a theta that is a tenth smaller."""
    right = tower.rotary

    def rotary(states: Any, positions: Any) -> Any:
        frequencies = right.inv_freq
        exponents = torch.linspace(0, 1, len(frequencies) + 1)[:-1]
        angles = positions[0][:, None].float() * (frequencies * 0.9**-exponents)
        angles = torch.cat([angles, angles], dim=-1)[None]
        return angles.cos().to(states.dtype), angles.sin().to(states.dtype)

    return replace(tower, rotary=rotary)


def without_biases(tower: Any) -> Any:
    return replace(tower, layers=tuple(replace(layer, bias=None) for layer in tower.layers))


def without_head_norms(tower: Any) -> Any:
    layers = tuple(replace(layer, query_norm=None, key_norm=None) for layer in tower.layers)
    return replace(tower, layers=layers)


def prompts_without(part: str) -> Callable[[Patch], None]:
    """Both paths get prompts with pictures that lack what some families need besides features."""

    def inject(patch: Patch) -> None:
        right = _probes.seeing_prompt
        patch.setattr(_probes, "seeing_prompt", lambda *given: replace(right(*given), **{part: None}))

    return inject


def lean_takes(kind: str) -> Callable[[Patch], None]:
    """The lean path, which knows nothing of what this family adds to Llama's layers, takes it all the same."""

    def inject(patch: Patch) -> None:
        patch.setattr(_tower_view, "KNOWN_LAYERS", (*_tower_view.KNOWN_LAYERS, f"{kind}DecoderLayer"))

        def view(model: Any, decoder: Any) -> Any:
            norm = decoder.norm
            if not hasattr(norm, "variance_epsilon"):
                norm.variance_epsilon = norm.eps
            return _tower_view.view_of(model, decoder)

        patch.setattr(hf, "view_of", view)

    return inject


def no_types(patch: Patch) -> None:
    patch.setattr(Engine, "_types", lambda self, prompts, ids: {})


def bare_embeddings(patch: Patch) -> None:
    """Embeddings as they lie in the table, without the family's scale."""

    def embed(self: Any, prompts: Any, ids: Any, mask: Any) -> Any:
        return functional.embedding(ids, self.decoder.embed_tokens.weight)

    patch.setattr(Engine, "_embed", embed)


def seen_padding(patch: Patch) -> None:
    pad = Engine._pad

    def padded(self: Any, prompts: Any) -> Any:
        ids, mask = pad(self, prompts)
        return ids, torch.ones_like(mask)

    patch.setattr(Engine, "_pad", padded)


def swapped_pictures(patch: Patch) -> None:
    """Each question of a batch gets another's picture; alone, it gets its own."""
    embed = Engine._embed

    def swapped(self: Any, prompts: Any, ids: Any, mask: Any) -> Any:
        features = [prompt.features for prompt in prompts if prompt.features is not None]
        given = iter(reversed(features))
        mixed = [prompt if prompt.features is None else replace(prompt, features=next(given)) for prompt in prompts]
        return embed(self, mixed, ids, mask)

    patch.setattr(Engine, "_embed", swapped)


def late_rests(patch: Patch) -> None:
    """What follows a shared beginning is read one place too far."""
    lay_out = _lean.Schedule._embed

    def late(self: Any, chunk: Any) -> Any:
        if len(chunk.parts) < len(chunk.rests) + len(chunk.parts):
            first = chunk.rests[0].start
            chunk.positions[first:] += 1
        return lay_out(self, chunk)

    patch.setattr(_lean.Schedule, "_embed", late)


# What is wrong: the model, further settings, and how. On the lean path a fault gives way, on the loop it is refused.
FAULTS: dict[str, tuple[str, dict[str, Any], Callable[[Patch], None]]] = {
    "epsilon": ("Llama", {}, of_tower(lambda tower: replace(tower, eps=2 * tower.eps + 1e-5))),
    "rotary theta": ("Qwen2", {}, of_tower(other_theta)),
    "no window": ("Mistral", {}, of_tower(lambda tower: replace(tower, window=None))),
    "a window too wide": ("Mistral", {}, of_tower(lambda tower: replace(tower, window=tower.window + 64))),
    "norm offset": ("Gemma", GEMMA_LIKE, lean_takes("Gemma")),
    "soft caps": ("Gemma2", GEMMA_LIKE, lean_takes("Gemma2")),
    "query and key norms": ("Qwen3", {}, of_tower(without_head_norms)),
    "pictures that lie in a row": ("qwen2_5_vl", {}, prompts_without("axes")),
    "features that are added once only": ("qwen3_vl", {}, prompts_without("deep")),
    "scales of the stream": ("Granite", {}, lean_takes("Granite")),
    "a shared beginning": ("Llama", {}, late_rests),
    "image tokens that are blind to later ones": ("gemma3", {}, no_types),
    "scale of embeddings": ("Gemma", {}, bare_embeddings),
    "padding that is seen": ("Phi3", {}, seen_padding),
    "pictures that are swapped": ("gemma3", {}, swapped_pictures),
}

ON_LOOP = (
    *("image tokens that are blind to later ones", "scale of embeddings", "padding that is seen"),
    *("pictures that are swapped", "pictures that lie in a row", "features that are added once only"),
)
VLMS = ("qwen2_5_vl", "qwen3_vl")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def save(folder: Path, family: str, depth: int, *, seed: int = 0, **config: Any) -> Path:
    config = {"num_hidden_layers": depth, **config}
    if family in ("gemma3", "Gemma3Text"):
        config["layer_types"] = (["sliding_attention", "full_attention"] * depth)[:depth]
    if family == "gemma3":
        return save_gemma3(folder, seed=seed, **config)
    if family in VLMS:
        save_vlm_family(family, folder, seed=seed)
        return folder
    if family in ("llava", "llava_next"):
        return save_vlm(folder, next_=family == "llava_next", dtype=torch.float32, seed=seed, **config)
    return save_family(folder, family, seed=seed, **config)


def assert_noticed(fault: str, depth: int, dtypes: list[torch.dtype], folder: Path, caplog: Any) -> None:
    family, config, inject = FAULTS[fault]
    save(folder, family, depth, **config)
    for dtype in dtypes:
        Engine.load(folder, dtype=dtype)  # right without the fault
        with pytest.MonkeyPatch.context() as patch:
            inject(patch)
            if fault in ON_LOOP:
                with pytest.raises(CheckpointError, match="its answers here would differ"):
                    Engine.load(folder, dtype=dtype)
                continue
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert Engine.load(folder, dtype=dtype).lean is None
            assert "the fast path differs from transformers' own forward pass" in caplog.text, dtype


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_of_structure_shows_in_sixteen_bits(fault: str, tmp_path: Path, caplog: Any):
    assert_noticed(fault, 2, [torch.bfloat16], tmp_path, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_of_structure_shows_in_every_dtype(fault: str, tmp_path: Path, caplog: Any):
    assert_noticed(fault, 2, DTYPES, tmp_path, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_of_structure_shows_in_a_deep_model(fault: str, tmp_path: Path, caplog: Any):
    assert_noticed(fault, 32, DTYPES, tmp_path, caplog)


LEAN = ("Llama", "Mistral", "Qwen2", "Qwen3", "llava", "llava_next", *VLMS)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 32])
@pytest.mark.parametrize("family", [*FAMILIES, "gemma3", "llava", "llava_next", *VLMS])
def test_right_engines_pass_with_any_weights(family: str, depth: int, tmp_path: Path, caplog: Any):
    # Every seed loads an engine for each dtype; a recorded run (CONTRIBUTING.md) tries ten or twenty seeds.
    for seed in range(max(1, settings().max_examples // (250 if depth == 2 else 500))):
        save(tmp_path / str(seed), family, depth, seed=seed, vocab_size=2064)
        for dtype in DTYPES:
            engine = Engine.load(tmp_path / str(seed), dtype=dtype)
            assert (engine.lean is not None) == (family in LEAN)
    assert "differ" not in caplog.text
    assert "compared" not in caplog.text
