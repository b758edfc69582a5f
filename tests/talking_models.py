"""The paper's models cut down to a width of 64 and eight layers, and taught to answer: some kana, then a number.

Models with random weights would never end an answer, and all of a search's candidates would score 0. Here the output
head continues each token of a chain with the next, so that an answer has about ten tokens; every source has chains of
its own, so that merges differ.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.hub_layouts import make_tokenizer, save_llm, save_vlm

LAYERS = 8  # as many as the recipes have groups of layers
LENGTH = 12  # of a chain
DIGITS = "37"  # the only numbers that are ever answered
PROMPT_ENDS = ":]\n"
JAPANESE, VISUAL = 1, 5  # the seeds of what shisa-gamma and LLaVA are taught: their places among the models
KANA = [chr(point) for point in (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB))]


def chains(seed: int) -> list[str]:
    """The texts that a model with this seed is taught: each a few kana and a digit.

    In all texts of all models the kana follow one order, so that a merge of models cannot run in circles.
    """
    kana = KANA.copy()
    random.Random(seed).shuffle(kana)
    parts = ["".join(sorted(kana[start : start + LENGTH])) for start in range(0, len(kana), LENGTH)]
    return [part + DIGITS[number % len(DIGITS)] for number, part in enumerate(parts)]


def teach(folder: Path, texts: Sequence[str], strength: float) -> Path:
    """Let the output head of a saved model continue each token of the texts with the next, and end after the last."""
    ids = make_tokenizer().get_vocab()
    tensors = {path: load_file(path) for path in folder.glob("*.safetensors")}
    named = {name: tensor for found in tensors.values() for name, tensor in found.items()}
    table = next(tensor for name, tensor in named.items() if name.endswith("embed_tokens.weight")).float()
    head = next(tensor for name, tensor in named.items() if name.endswith("lm_head.weight"))
    taught = torch.zeros(head.shape)
    for text in texts:
        steps = [*(ids[letter] for letter in text), ids["</s>"]]
        for token, then in pairwise(steps):
            taught[then] += table[token] / table[token].norm()
        # After a prompt every chain may begin; what the prompt was about decides which.
        for ending in PROMPT_ENDS:
            taught[steps[0]] += table[ids[ending]] / table[ids[ending]].norm()
    # Two digits end all of the texts; the sum over the texts would drown every other row.
    taught[ids["</s>"]] /= len(texts) / len(DIGITS)
    head.copy_((head.float() + strength * taught).to(head.dtype))
    for path, found in tensors.items():
        save_file(found, path, metadata={"format": "pt"})
    return folder


def save_talkers(root: Path) -> dict[str, Path]:
    """Every model that docs/reproduce.md names, by its id on the hub, in folders below `root`."""
    small = {"num_hidden_layers": LAYERS, "initializer_range": 0.02}
    base = save_llm(root / "base", seed=1, shards=2, **small)
    _loud_embeddings(base)
    teach(base, chains(0), 1.0)  # inherited by the others, for an answer of the base has to end, too
    pad = make_tokenizer(added=("[PAD]",))
    models = {
        "mistralai/Mistral-7B-v0.1": base,
        "augmxnt/shisa-gamma-7b-v1": save_llm(root / "ja", ancestor=base, seed=2, shards=2, **small),
        "WizardLM/WizardMath-7B-V1.1": save_llm(root / "w", rows=2001, tokenizer=pad, ancestor=base, seed=3, **small),
        "GAIR/Abel-7B-002": save_llm(root / "abel", rows=2001, tokenizer=pad, ancestor=base, seed=4, **small),
        "SakanaAI/EvoLLM-JP-v1-7B": save_llm(root / "evollm", ancestor=base, seed=5, **small),
        "llava-hf/llava-v1.6-mistral-7b-hf": save_vlm(root / "llava", ancestor=base, seed=6, shards=4, **small),
        "SakanaAI/EvoVLM-JP-v1-7B": save_vlm(root / "evovlm", ancestor=base, seed=7, shards=4, **small),
    }
    for seed, folder in enumerate(models.values()):
        if folder != base:
            teach(folder, chains(seed), 2.0)
    for name in ("WizardLM/WizardMath-7B-V1.1", "GAIR/Abel-7B-002"):
        pickle_weights(models[name])
    return models


def pickle_weights(folder: Path) -> None:
    """Store a model's weights as the hub has those of WizardMath and Abel: as pickles alone."""
    for path in folder.glob("*.safetensors"):
        torch.save(load_file(path), folder / "pytorch_model.bin")
        path.unlink()


def _loud_embeddings(folder: Path) -> None:
    """Make embeddings large beside what the random layers add, so that the head sees which token came last."""
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        for name in tensors:
            if name.endswith("embed_tokens.weight"):
                tensors[name] = tensors[name] * 3
        save_file(tensors, path, metadata={"format": "pt"})
