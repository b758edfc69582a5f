"""Towers: where a checkpoint keeps its language model, and under which names.

Knows key names alone; no tensors and no configurations. Canonical names are those of a plain causal language model:
`model.embed_tokens.weight`, `model.layers.N...`, `model.norm.weight`, `lm_head.weight`.

To teach it another family, add a row to `LAYOUTS`, or call `register` in a module of your own (docs/extending.md): the
prefix that stands before `embed_tokens`, `layers` and `norm` in
the file, and the one before the head's `weight`. A layout is recognised by its embedding table, so the new prefix must
differ from those of the other rows. Everything without such a prefix counts as vision, projector or newline, and is
carried over from the owner untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evovlm.system.errors import CheckpointError

EMBEDDING = "model.embed_tokens.weight"
OUTPUT_HEAD = "lm_head.weight"
VOCABULARY_TENSORS = (EMBEDDING, OUTPUT_HEAD)  # a row for each token
FINAL_NORM = "model.norm.weight"
# What of a causal language model is weights. Remote-code families keep their eyes under `model.` too.
TOWER_PARTS = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")
# Tables that old checkpoints store and today's models compute.
BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


@dataclass(frozen=True)
class Layout:
    """One way of naming a language tower's tensors in a file."""

    name: str
    kind: Literal["llm", "vlm"]
    prefixes: tuple[tuple[str, str], ...]  # (prefix in the file, canonical prefix)

    def canonical(self, key: str) -> str | None:
        """The canonical name of a key in the file, or None where it is not of the tower."""
        for in_file, canonical in self.prefixes:
            if key.startswith(in_file):
                name = canonical + key.removeprefix(in_file)
                if name.startswith(TOWER_PARTS) and not name.endswith(BUFFERS):
                    return name
        return None

    def in_file(self, name: str) -> str:
        """The key in the file of a canonical name."""
        for in_file, canonical in self.prefixes:
            if name.startswith(canonical):
                return in_file + name.removeprefix(canonical)
        raise ValueError(f"{name!r} is no canonical tower name; these begin with {TOWER_PARTS}")


LAYOUTS: list[Layout] = [
    # LlavaForConditionalGeneration and LlavaNextForConditionalGeneration on the hub, and as transformers 5 saves them.
    Layout("llava-hub", "vlm", (("language_model.model.", "model."), ("language_model.lm_head.", "lm_head."))),
    # The same as they stand in memory since transformers 4.52, and as `save_original_format=False` saves them.
    Layout("llava-memory", "vlm", (("model.language_model.", "model."), ("lm_head.", "lm_head."))),
    # MistralForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM.
    Layout("causal-lm", "llm", (("model.", "model."), ("lm_head.", "lm_head."))),
]


def register(layout: Layout) -> None:
    """Add a family's layout of your own, so that its checkpoints can be opened and merged.

    Raises ValueError where another layout has its name or would be recognised by the same embedding table.
    """
    for other in LAYOUTS:
        if layout.name == other.name or layout.in_file(EMBEDDING) == other.in_file(EMBEDDING):
            raise ValueError(
                f"layout {layout.name!r}: {other.name!r} has its name or its embedding table"
                f" {other.in_file(EMBEDDING)}; a layout needs both of its own"
            )
    LAYOUTS.append(layout)


def detect_layout(keys: Iterable[str], folder: Path) -> Layout:
    """The layout whose embedding table stands among the keys; `folder` is for the error's text.

    Raises CheckpointError where no layout of the table fits.
    """
    known = set(keys)
    for layout in LAYOUTS:
        if layout.in_file(EMBEDDING) in known:
            return layout
    looked_for = ", ".join(f"{layout.in_file(EMBEDDING)} ({layout.name})" for layout in LAYOUTS)
    raise CheckpointError(
        f"{folder}: no language tower found; looked for {looked_for}; the file has {sorted(known)[:3]}."
        " Choose a Mistral, Llama, Qwen2, Llava or LlavaNext checkpoint, or add its layout to evovlm/models/layouts.py"
    )
