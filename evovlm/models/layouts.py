"""Layouts: under which names a checkpoint stores its language tower.

Knows only key names; no tensors and no configurations. Canonical names are those of a plain causal language model:
`model.embed_tokens.weight`, `model.layers.N...`, `model.norm.weight`, `lm_head.weight`.

To add a model family, add a row to `LAYOUTS`, or call `register` in your own module (docs/extending.md). It gives the
prefix before `embed_tokens`, `layers` and `norm` in the file, and the prefix before the head's `weight`. A layout is
recognised by its embedding table, so the new prefix must differ from those of the other rows. Everything without such
a prefix counts as vision, projector or newline, and is carried over from the owner unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evovlm.system.errors import CheckpointError

EMBEDDING = "model.embed_tokens.weight"
OUTPUT_HEAD = "lm_head.weight"
VOCABULARY_TENSORS = (EMBEDDING, OUTPUT_HEAD)  # one row per token
FINAL_NORM = "model.norm.weight"
LAYER = re.compile(r"^model\.layers\.(0|[1-9][0-9]{0,5})\.")
# The parts that are a causal language model's weights. Remote-code families keep their vision tower under `model.` too.
TOWER_PARTS = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")
# Tables that old checkpoints store but current models compute.
BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")


@dataclass(frozen=True)
class Layout:
    """One naming scheme for a language tower's tensors in a file."""

    name: str
    kind: Literal["llm", "vlm"]
    prefixes: tuple[tuple[str, str], ...]  # (prefix in the file, canonical prefix)
    beside: str | None = None  # a prefix of other keys in the file, where the embedding table alone does not tell

    def canonical(self, key: str) -> str | None:
        """The canonical name of a key in the file, or None if it does not belong to the language tower."""
        for in_file, canonical in self.prefixes:
            if key.startswith(in_file):
                name = canonical + key.removeprefix(in_file)
                if name.startswith(TOWER_PARTS) and not name.endswith(BUFFERS):
                    return name
        return None

    def in_file(self, name: str) -> str:
        """The key in the file for a canonical name. Raises ValueError if the name is not canonical."""
        for in_file, canonical in self.prefixes:
            if name.startswith(canonical):
                return in_file + name.removeprefix(canonical)
        raise ValueError(f"{name!r} is not a canonical tower name; these begin with {TOWER_PARTS}")


LAYOUTS: list[Layout] = [
    # LlavaForConditionalGeneration and LlavaNextForConditionalGeneration on the hub, and as transformers 5 saves them.
    Layout("llava-hub", "vlm", (("language_model.model.", "model."), ("language_model.lm_head.", "lm_head."))),
    # The same models as named in memory since transformers 4.52, and as `save_original_format=False` saves them.
    Layout("llava-memory", "vlm", (("model.language_model.", "model."), ("lm_head.", "lm_head."))),
    # Qwen2VLForConditionalGeneration and Qwen2_5_VL..., on the hub and as transformers 5 saves them.
    Layout("qwen-vl", "vlm", (("model.", "model."), ("lm_head.", "lm_head.")), beside="visual."),
    # Idefics3ForConditionalGeneration and SmolVLM...
    Layout("idefics3", "vlm", (("model.text_model.", "model."), ("lm_head.", "lm_head."))),
    # Language models: MistralForCausalLM, LlamaForCausalLM, Qwen3ForCausalLM...
    Layout("causal-lm", "llm", (("model.", "model."), ("lm_head.", "lm_head."))),
]


def register(layout: Layout) -> None:
    """Add the layout of a model family, so that its checkpoints can be opened and merged.

    Raises ValueError if another layout has its name or would be recognised by the same embedding table.
    """
    for other in LAYOUTS:
        alike = layout.in_file(EMBEDDING) == other.in_file(EMBEDDING) and layout.beside == other.beside
        if layout.name == other.name or alike:
            raise ValueError(
                f"layout {layout.name!r}: {other.name!r} has the same name or the same embedding table"
                f" {other.in_file(EMBEDDING)}; a layout needs its own name and its own embedding table"
            )
    LAYOUTS.append(layout)


def detect_layout(keys: Iterable[str], folder: Path) -> Layout:
    """The layout whose embedding table is among the keys; `folder` is named in the error.

    Raises CheckpointError if no known layout fits.
    """
    known = set(keys)
    for layout in LAYOUTS:
        if layout.in_file(EMBEDDING) in known and (
            layout.beside is None or any(key.startswith(layout.beside) for key in known)
        ):
            return layout
    looked_for = ", ".join(f"{layout.in_file(EMBEDDING)} ({layout.name})" for layout in LAYOUTS)
    raise CheckpointError(
        f"{folder}: no language tower found; looked for {looked_for}; the file has {sorted(known)[:3]}."
        " Choose a model of a family in docs/families.md, or add its layout to evovlm/models/layouts.py"
    )


def named_twice(keys: Iterable[str], layout: Layout) -> tuple[str, str] | None:
    """Two keys in the file for one tensor of the tower, the second in another layout's naming; None if there are none.

    Such a file was put together from two checkpoints, and libraries differ in which of the two tensors they load.
    """
    keys = list(keys)
    tower = {name: key for key in keys if (name := layout.canonical(key)) is not None}
    for key in keys:
        if layout.canonical(key) is None:
            for other in LAYOUTS:
                name = other.canonical(key)
                if name in tower:
                    return tower[name], key
    return None
