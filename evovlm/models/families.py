"""Families of vision-language models: what they share with the text models that can be merged into them.

Knows names in configurations; no tensors. A family is one row of `FAMILIES`, found by `model_type` in config.json;
key names are in `layouts`. A model without a row is treated as `PLAIN`, and every model's answers are compared with
transformers' own when it is loaded, so a row is needed only for what it says.

To add a family, add a row, or call `register` in your own module (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """One family.

    name: as tables name it. types: `model_type` of its configurations. towers: `model_type` of text models that compute
    the same function as its tower. picture: what `<image>` in a prompt becomes; None: the processor's own token.
    positions: whether a picture's tokens lie in a `grid` (mrope) or `row`. attention: which tokens see later ones: none
    (`causal`), those of a picture (`picture`) or of a whole prompt (`prompt`). answer_type: the token type of an
    answer's tokens. placeholder: the token in whose place the features go, if its files do not say. since: the
    transformers version from which its own forward pass is right, if not every supported one's is. unasked: why it
    cannot be asked, if so.

    own_tower: its tower's `model_type`, if that is none of `towers`. flat: whether files may have the tower's settings
    at the top of config.json, without `text_config`. inserted: the key among the tower's settings that lists layers
    which a text model lacks. counted: whether the processor counts a picture's tokens by its own patch size and
    strategy, so that they must agree with config.json's. base_tile: whether a picture's features begin with those of
    the whole picture, which `base_tile` of a preset leaves alone. ends_line: whether the processor ends a prompt with a
    picture by a line break of its own, so that a template's last one is left out.
    """

    name: str
    types: tuple[str, ...]
    towers: tuple[str, ...]
    picture: str | None = None
    positions: str = "row"
    attention: str = "causal"
    answer_type: int = 0
    placeholder: str | None = None
    since: str = ""
    unasked: str = ""
    own_tower: str = ""
    flat: bool = False
    inserted: str = ""
    counted: bool = False
    base_tile: bool = False
    ends_line: bool = False


QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
MERGED_ONLY = "evovlm merges its language tower, but cannot ask it yet"

FAMILIES: list[Family] = [
    Family("LLaVA 1.5, Pixtral", ("llava",), ("llama", "mistral", "qwen2"), counted=True),
    Family("LLaVA-NeXT", ("llava_next",), ("llama", "mistral", "qwen2"), counted=True, base_tile=True),
    Family("LLaVA-OneVision", ("llava_onevision",), ("qwen2",)),
    Family("Qwen2-VL", ("qwen2_vl",), ("qwen2",), QWEN_PICTURE, "grid", own_tower="qwen2_vl_text", flat=True),
    Family("Qwen2.5-VL", ("qwen2_5_vl",), ("qwen2",), QWEN_PICTURE, "grid", own_tower="qwen2_5_vl_text", flat=True),
    Family("Qwen3-VL", ("qwen3_vl",), ("qwen3",), QWEN_PICTURE, "grid", own_tower="qwen3_vl_text"),
    Family("InternVL3, InternVL3.5", ("internvl",), ("qwen2", "qwen3"), "<IMG_CONTEXT>"),
    Family("Gemma 3", ("gemma3",), ("gemma3_text",), "<start_of_image>", attention="picture"),
    # 5.17 lets the tokens of a prompt without a picture see later ones in every other layer (its mask is None and its
    # attention not causal), and leaves out Gemma 2's caps; 5.22 still leaves out the one on the logits.
    Family(
        *("PaliGemma 2", ("paligemma",), ("gemma2",)),
        attention="prompt",
        answer_type=1,
        since="5.23",
        ends_line=True,
    ),
    Family("Mistral Small 3.1", ("mistral3",), ("mistral",)),
    Family("Idefics3", ("idefics3",), ("llama",)),
    Family("SmolVLM", ("smolvlm",), ("llama",)),
    Family("Aya Vision", ("aya_vision",), ("cohere2",), placeholder="<|IMG_PATCH|>"),
    Family("Qwen3.5", ("qwen3_5",), ("qwen3_5_text",), QWEN_PICTURE, positions="grid", unasked=MERGED_ONLY),
    Family("Gemma 4", ("gemma4",), ("gemma4_text",), unasked=MERGED_ONLY),
    Family(
        *("Llama 3.2 Vision", ("mllama",), ("llama",)),
        unasked=MERGED_ONLY,
        own_tower="mllama_text_model",
        inserted="cross_attention_layers",
    ),
]
PLAIN = Family("other", (), ())


def register(family: Family) -> None:
    """Add a family. Raises ValueError if another one has its name or one of its types."""
    for other in FAMILIES:
        if other.name == family.name or set(other.types) & set(family.types):
            raise ValueError(f"family {family.name!r}: {other.name!r} has the same name or model_type")
    FAMILIES.append(family)


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration (the content of config.json); `PLAIN` if it has no row."""
    kind = config.get("model_type")
    return next((family for family in FAMILIES if kind in family.types), PLAIN)


def family_of_tower(text_config: Mapping[str, Any]) -> Family:
    """The family whose `own_tower` a language model's configuration is; `PLAIN` if it is of no family's own kind."""
    kind = text_config.get("model_type")
    return next((family for family in FAMILIES if kind and kind == family.own_tower), PLAIN)


def has_tiles(kind: str, config: Mapping[str, Any]) -> bool:
    """Whether the pictures of a recipe's kind of model, by the owner's config.json, have tiles and a base tile."""
    return kind == "vlm" and family_of(config).base_tile
