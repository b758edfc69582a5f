"""A tower's configuration as that of a causal language model, which transformers can make without the vision part.

Knows transformers' configurations. Qwen's vision-language towers have kinds of their own (`qwen3_vl_text`), of which
transformers has no such model; the text family's computes the same function of a text.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from evovlm.merging.check.configuration import ALIKE, MULTIMODAL


def causal_config(folder: Path) -> Any:
    """A copy of the configuration of a model's tower, of a kind that `AutoModelForCausalLM` takes if there is one.

    Raises what transformers raises for a configuration that it rejects.
    """
    from transformers import CONFIG_MAPPING, AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    kind = config.model_type
    alike = next((kinds for kinds in ALIKE if kind in kinds), set())
    twin = next((other for other in sorted(alike) if other in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), None)
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or twin is None:
        return copy.deepcopy(config)
    given = {name: value for name, value in config.to_dict().items() if name != "model_type"}
    rope = given.get("rope_parameters") or {}
    given["rope_parameters"] = {name: value for name, value in rope.items() if name not in MULTIMODAL}
    return CONFIG_MAPPING[twin](**given)
