"""Factories of tiny checkpoints in the hub's exact layouts: names, shards, vocabularies, tokenizers, processors.

Width and depth are cut down; everything else is what `save_pretrained` writes. The weights are random with a fixed
seed, and models of one `ancestor` differ from it by a small random step, as fine-tunes do.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

Family = Literal["mistral", "llama", "qwen2"]
FAMILIES: dict[str, tuple[Any, Any]] = {
    "mistral": (MistralConfig, MistralForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
MISTRAL_ROWS = 32000
FEW_TOKENS = 2000  # for tests that are not about vocabularies: a sixteenth of the time
PADDED = 64  # rows that LLaVA's tables have more: <image>, <pad>, and 62 of padding
IMAGE_SIZE = 28
PATCH = 14
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %} [/INST]{% endif %}{% endfor %}"
)


@cache
def pieces(count: int = FEW_TOKENS, seed: int = 0) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens in the order of their ids, and the merges that reach every word: a BPE like SentencePiece's."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = [*"▁etaoinshrdlucmfwypvbgkjqxz0123456789.,?!:[]/()'\"-_TASCIRPMBDEFGHJKLNOQUVWXYZ", *"<>\n"]
    letters += [chr(point) for point in range(0x3041, 0x3097)] + [chr(point) for point in range(0x30A1, 0x30FB)]
    tokens += letters
    known = set(tokens)
    merges = []
    rng = random.Random(seed)
    grown = list(letters[:40])
    while len(tokens) < count:
        left, right = rng.choice(grown), rng.choice(letters[1:40])
        if left + right in known or len(left) > 8:
            continue
        merges.append((left, right))
        tokens.append(left + right)
        grown.append(left + right)
        known.add(left + right)
    return tokens, merges


def make_tokenizer(
    count: int = FEW_TOKENS, *, added: tuple[str, ...] = (), order_seed: int | None = None, words_seed: int = 0
) -> PreTrainedTokenizerFast:
    """A Mistral-like tokenizer of `count` entries and `added` special tokens behind them.

    `order_seed`: permute the ids of ordinary tokens; `words_seed`: another choice of words.
    """
    tokens, merges = pieces(count, words_seed)
    order = list(range(len(tokens)))
    if order_seed is not None:
        ordinary = order[259:]
        random.Random(order_seed).shuffle(ordinary)
        order[259:] = ordinary
    vocab = dict(zip(tokens, order, strict=True))
    bpe = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    backend = Tokenizer(bpe)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>", *added)])
    padding = next((token for token in added if "pad" in token.lower()), "</s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token=padding,
        padding_side="left",
        model_max_length=32768,
    )


def tokenizer_with(*tokens: str, **named: str) -> PreTrainedTokenizerFast:
    """The small tokenizer with special tokens; `named` ones are attributes too (`image_token`)."""
    plain = make_tokenizer(added=(*tokens, *named.values()))
    return PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        padding_side="left",
        extra_special_tokens=named,
    )


def text_config(family: Family, rows: int, **overrides: Any) -> Any:
    """A small configuration of a family, its heads grouped as in the 7B models."""
    small = {
        "vocab_size": rows,
        "hidden_size": 64,
        "intermediate_size": 112,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    }
    if family == "mistral":
        small |= {"sliding_window": 4096, "rms_norm_eps": 1e-5}
    return FAMILIES[family][0](**{**small, **overrides})


def save_llm(
    folder: Path,
    *,
    family: Family = "mistral",
    rows: int = FEW_TOKENS,
    tokenizer: PreTrainedTokenizerFast | None = None,
    ancestor: Path | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    shards: int = 1,
    **config: Any,
) -> Path:
    """A causal language model as its hub repository has it. `tokenizer` None: one of few tokens."""
    torch.manual_seed(seed)
    model = FAMILIES[family][1](text_config(family, rows, **config)).to(dtype)
    model.generation_config.max_new_tokens = 8
    _descend(dict(model.named_parameters()), ancestor, seed)
    model.save_pretrained(folder)
    reshard(folder, shards)
    (tokenizer or make_tokenizer()).save_pretrained(folder)
    return folder


def save_vlm(
    folder: Path,
    *,
    next_: bool = True,
    family: Family = "mistral",
    rows: int = FEW_TOKENS + PADDED,
    tokenizer: PreTrainedTokenizerFast | None = None,
    ancestor: Path | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    shards: int = 1,
    original_format: bool = True,
    **config: Any,
) -> Path:
    """LlavaNext (or Llava) with its processor, in the hub's layout or in that of memory (`original_format=False`)."""
    tokenizer = tokenizer or make_tokenizer(added=("<image>", "<pad>"))
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        image_size=IMAGE_SIZE, patch_size=PATCH, projection_dim=32,
    )  # fmt: skip
    shared = {
        "vision_config": vision,
        "text_config": text_config(family, rows, **config),
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
    }
    pinpoints = [[IMAGE_SIZE, 2 * IMAGE_SIZE], [2 * IMAGE_SIZE, IMAGE_SIZE], [2 * IMAGE_SIZE, 2 * IMAGE_SIZE]]
    model: Any
    if next_:
        model = LlavaNextForConditionalGeneration(LlavaNextConfig(**shared, image_grid_pinpoints=pinpoints))
    else:
        model = LlavaForConditionalGeneration(LlavaConfig(**shared))
    model = model.to(dtype)
    model.generation_config.max_new_tokens = 8
    tower = {f"model.{name}": value for name, value in model.model.language_model.named_parameters()}
    _descend(tower | {"lm_head.weight": model.lm_head.weight}, ancestor, seed)
    model.save_pretrained(folder, save_original_format=original_format)
    reshard(folder, shards, {"vision_tower.": "vision_tower.vision_model."} if original_format else {})
    save_processor(folder, tokenizer, pinpoints if next_ else None)
    return folder


def save_processor(folder: Path, tokenizer: PreTrainedTokenizerFast, pinpoints: list[list[int]] | None) -> None:
    """The processor of LlavaNext, or of Llava without pinpoints, with its tokenizer and chat template."""
    size = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}
    shared: dict[str, Any] = {
        "tokenizer": tokenizer,
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "chat_template": CHAT_TEMPLATE,
    }
    if pinpoints is None:
        LlavaProcessor(image_processor=CLIPImageProcessorPil(**size), **shared).save_pretrained(folder)
    else:
        image_processor = LlavaNextImageProcessorPil(**size, image_grid_pinpoints=pinpoints)
        LlavaNextProcessor(image_processor=image_processor, **shared).save_pretrained(folder)


def reshard(folder: Path, count: int, renamed: Mapping[str, str] | None = None) -> None:
    """Exchange a folder's model.safetensors for exactly `count` shards and an index, prefixes renamed as on the hub."""
    tensors = {}
    for key, value in load_file(folder / "model.safetensors").items():
        old = next((prefix for prefix in renamed or () if key.startswith(prefix)), "")
        tensors[(renamed or {}).get(old, "") + key.removeprefix(old)] = value
    (folder / "model.safetensors").unlink()
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(count)]
    for position, key in enumerate(sorted(tensors)):
        shards[position * count // len(tensors)][key] = tensors[key]
    names = (
        ["model.safetensors"] if count == 1 else [f"model-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)]
    )
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})
    if count > 1:
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(value.nbytes for value in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _descend(parameters: dict[str, torch.nn.Parameter], ancestor: Path | None, seed: int) -> None:
    """Set a tower to its ancestor's weights plus a small step; vocabulary rows beyond the ancestor's stay random."""
    if ancestor is None:
        return
    inherited = {
        name: value for path in sorted(ancestor.glob("*.safetensors")) for name, value in load_file(path).items()
    }
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in parameters.items():
            old = inherited[name]
            step = 2e-3 * torch.randn(old.shape, generator=generator)
            parameter[: len(old)].copy_(old.float() + step)


# The models of the paper, cut down. Shards: as many as the hub's repositories have.


def save_mistral_base(folder: Path, tokens: int) -> Path:
    """mistralai/Mistral-7B-v0.1: two shards, rope_theta 1e4; its vocabulary has 32000 tokens."""
    return save_llm(folder, rows=tokens, tokenizer=make_tokenizer(tokens), seed=1, shards=2)


def save_shisa_gamma(folder: Path, base: Path, tokens: int) -> Path:
    """augmxnt/shisa-gamma-7b-v1: Mistral's shapes and vocabulary, two shards."""
    return save_llm(folder, rows=tokens, tokenizer=make_tokenizer(tokens), ancestor=base, seed=2, shards=2)


def save_wizard_math(folder: Path, base: Path, tokens: int) -> Path:
    """WizardLM/WizardMath-7B-V1.1: one row more than Mistral, for [PAD]."""
    tokenizer = make_tokenizer(tokens, added=("[PAD]",))
    return save_llm(folder, rows=tokens + 1, tokenizer=tokenizer, ancestor=base, seed=3)


def save_llava_next_mistral(folder: Path, base: Path, tokens: int) -> Path:
    """llava-hf/llava-v1.6-mistral-7b-hf: four shards, 64 rows more, rope_theta 1e6, no sliding window."""
    tokenizer = make_tokenizer(tokens, added=("<image>", "<pad>"))
    rope = {"rope_type": "default", "rope_theta": 1e6}
    return save_vlm(
        folder, rows=tokens + PADDED, tokenizer=tokenizer, ancestor=base, seed=4, shards=4, rope_parameters=rope,
        sliding_window=None,
    )  # fmt: skip


def save_extended_vocabulary(folder: Path, base: Path, tokens: int) -> Path:
    """augmxnt/shisa-7b-v1: Mistral's 32000 tokens and many more (120128 in all; here 60000 to be quick)."""
    wider = tokens * 15 // 8
    return save_llm(folder, rows=wider + 32, tokenizer=make_tokenizer(wider), ancestor=base, seed=5)


def save_permuted(folder: Path, base: Path, tokens: int) -> Path:
    """The base itself, its tokenizer's ids shuffled and its rows moved along: by token it is the base."""
    shutil.copytree(base, folder)
    tokenizer = make_tokenizer(tokens, order_seed=7)
    tokenizer.save_pretrained(folder)
    ids = tokenizer.get_vocab()
    old = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    rows = torch.empty(len(old), dtype=torch.long)  # new id -> old id
    for token, row in old.items():
        rows[ids[token]] = row
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            if name in tensors:
                tensors[name] = tensors[name][rows].contiguous()
        save_file(tensors, path, metadata={"format": "pt"})
    return folder


def save_paper_models(folder: Path, tokens: int = MISTRAL_ROWS) -> dict[str, Path]:
    """All of the above in one folder: base, ja, math, vlm, extended and permuted; two seconds, 60 MB.

    `tokens`: a smaller vocabulary for tests that are about other things.
    """
    base = save_mistral_base(folder / "base", tokens)
    return {
        "base": base,
        "ja": save_shisa_gamma(folder / "ja", base, tokens),
        "math": save_wizard_math(folder / "math", base, tokens),
        "vlm": save_llava_next_mistral(folder / "vlm", base, tokens),
        "extended": save_extended_vocabulary(folder / "extended", base, tokens),
        "permuted": save_permuted(folder / "permuted", base, tokens),
    }
