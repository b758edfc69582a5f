"""Checkpoints of random weights as the hub has them: names, shards, configurations, tokenizers and chat templates.

Knows the layouts of Mistral and of LLaVA-NeXT; measures nothing. Weights are drawn on the device, tensor by tensor:
those of a name are the same in all models, but for a small step of each tuned one.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from evovlm.models.checkpoint import Checkpoint
from evovlm.models.checkpoint_writer import CheckpointWriter, TensorInfo
from evovlm.models.model_files import check_files
from evovlm.models.vocabulary import read_vocabulary
from evovlm.system.errors import CheckpointError, UserError
from evovlm.system.plain_text import abridged
from evovlm_benchmarks.rehearsal.sizes import Size
from evovlm_benchmarks.speed.full_size import configuration

SPREAD, STEP = 0.02, 0.001  # standard deviations of a weight and of what tuning changed
BASE, JA, MATHS, VLM = "base", "ja", "maths", "vlm"
SEEDS = {BASE: 0, VLM: 1, JA: 2, MATHS: 3}  # seeds of the change
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %} [/INST]"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
TOKENIZER, PROCESSOR = "tokenizer.json", "processor_config.json"
OTHER = "give a tokenizer of Mistral-7B v0.1"
GROWING = ("model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class Maker:
    """Writes the models of one size below a folder. device: where random weights are drawn."""

    folder: Path
    size: Size
    device: torch.device

    def language_model(self, name: str, tokenizer: Any) -> int:
        """Write a language model; returns its bytes."""
        tower = self.size.tower
        config = tower.config() | {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 32768}
        shapes = dict(tower.tensors())
        return self._write(name, shapes, config, tokenizer, self.size.shards, step=SEEDS[name])

    def vision_model(self, name: str, tokenizer: Any) -> int:
        """Write a LLaVA-NeXT whose vocabulary has the size's added rows, with its processor; returns its bytes."""
        rows = self.size.tower.vocabulary + self.size.added
        told = configuration(self.size.tower, self.size.eyes)
        told.text_config.vocab_size, told.image_token_id = rows, self.size.tower.vocabulary
        told.pad_token_id = self.size.tower.vocabulary + 1
        told.architectures, told.dtype = [LlavaNextForConditionalGeneration.__name__], torch.bfloat16
        with torch.device("meta"):
            model = LlavaNextForConditionalGeneration(told)
        shapes = {_on_the_hub(key): tuple(value.shape) for key, value in model.state_dict().items()}
        total = self._write(name, shapes, told.to_dict(), tokenizer, self.size.shards + 2, step=SEEDS[name])
        side = self.size.eyes.tile
        images = LlavaNextImageProcessorPil(
            size={"shortest_edge": side}, crop_size=side, image_grid_pinpoints=told.image_grid_pinpoints
        )
        processor = LlavaNextProcessor(
            images, tokenizer, patch_size=self.size.eyes.patch, vision_feature_select_strategy="default",
            chat_template=TEMPLATE, image_token="<image>", num_additional_image_tokens=1,
        )  # fmt: skip
        processor.save_pretrained(self.folder / name)
        return total

    def _write(
        self,
        name: str,
        shapes: Mapping[str, tuple[int, ...]],
        config: dict[str, Any],
        tokenizer: Any,
        shards: int,
        step: int,
    ) -> int:
        """Write a folder through a name of its own, so that a stopped rehearsal leaves no half-written model."""
        out, part = self.folder / name, self.folder / f".{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        infos = [TensorInfo(key, shape, torch.bfloat16) for key, shape in shapes.items()]
        total = sum(info.nbytes for info in infos)
        most = max(-(-total // shards), *(info.nbytes for info in infos))
        with CheckpointWriter(part, infos, most) as writer:
            for info in infos:
                writer.write(info.name, self._drawn(info, step))
        (part / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        told = {"bos_token_id": 1, "eos_token_id": 2, "max_new_tokens": self.size.tokens}
        (part / "generation_config.json").write_text(json.dumps(told), encoding="utf-8")
        tokenizer.save_pretrained(part)
        part.rename(out)
        return total

    def _drawn(self, info: TensorInfo, step: int) -> Tensor:
        """A tensor's values: ones for a norm, else random ones of its name, and the change by tuning."""
        known = info.name.removeprefix("language_model.")
        seed = zlib.crc32(known.encode())
        rows = (
            min(info.shape[0], self.size.tower.vocabulary) if known in GROWING else info.shape[0] if info.shape else 1
        )
        shape = (rows, *info.shape[1:])
        value = (
            torch.ones(shape, device=self.device)
            if "norm" in known.rpartition(".")[0].rpartition(".")[2]
            else self._random(shape, seed) * SPREAD
        )
        if step:
            value = value + self._random(shape, seed + 7919 * step) * STEP
        if info.shape and rows < info.shape[0]:
            further = self._random((info.shape[0] - rows, *info.shape[1:]), seed + 1) * SPREAD
            value = torch.cat([value, further])
        return value.to(torch.bfloat16).cpu()

    def _random(self, shape: tuple[int, ...], seed: int) -> Tensor:
        stream = torch.Generator(self.device).manual_seed(seed)
        return torch.randn(shape, generator=stream, device=self.device)


def is_whole(folder: Path) -> bool:
    """Whether a folder has a model as `Maker` writes it, by its files; what is in them is not read."""
    files = ("config.json", TOKENIZER, *((PROCESSOR,) if folder.name == VLM else ()))
    try:
        return all((folder / name).is_file() for name in files) and bool(Checkpoint.open(folder).keys())
    except CheckpointError:
        return False


def _on_the_hub(key: str) -> str:
    """A tensor's name in the converted checkpoints of LLaVA-NeXT on the hub."""
    if key.startswith("model.language_model."):
        return key.replace("model.language_model.", "language_model.model.", 1)
    return f"language_model.{key}" if key.startswith("lm_head.") else key.removeprefix("model.")


def tokenizers(size: Size, folder: Path | None) -> tuple[Any, Any]:
    """The language models' tokenizer and the VLM's, which has an image token, a pad token and spare ones more.

    folder: of a tokenizer to use; None: one of bytes, whose further tokens no text needs, so that Japanese takes
    about three tokens per character. Raises UserError if the folder has no tokenizer that can be read, or one with more
    tokens than the models have rows.
    """
    told = _bytes_alone(size.tower.vocabulary) if folder is None else _read_tokenizer(folder)
    if len(told) > size.tower.vocabulary:
        raise UserError(
            f"--tokenizer {folder}: it has {len(told):,} tokens, and the models have {size.tower.vocabulary:,} rows;"
            f" {OTHER}, or omit --tokenizer"
        )
    told.chat_template = TEMPLATE.replace("<image>\n", "")
    sees = _copy(told)
    names = ["<image>", "<pad>", *(f"<spare_{number}>" for number in range(size.added - 2))]
    sees.add_special_tokens({"extra_special_tokens": [AddedToken(name, special=True) for name in names]})
    sees.pad_token = "<pad>"
    sees.chat_template = TEMPLATE
    return told, sees


def _read_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a folder. Raises UserError if there is none, or it is damaged."""
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"--tokenizer {folder}: has no {TOKENIZER}; {OTHER}")
    try:
        check_files(folder)
        read_vocabulary(folder)
    except CheckpointError as error:
        raise UserError(f"--tokenizer: {error}, or {OTHER}") from None
    try:
        found = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        found.backend_tokenizer.to_str()
    except Exception as error:  # the library of tokenizers raises no other kind
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if isinstance(error, KeyError):
            reason = f"the key {reason} is missing"
        raise UserError(
            f"--tokenizer {folder / TOKENIZER}: cannot be read ({abridged(reason, 200)}); {OTHER}"
        ) from error
    return found


def _copy(tokenizer: Any) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
        bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token, unk_token=tokenizer.unk_token,
    )  # fmt: skip


def _bytes_alone(rows: int) -> Any:
    """A tokenizer of bytes with exactly `rows` tokens."""
    names = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [f"<unused_{number}>" for number in range(rows - len(names))]
    model = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, [], unk_token="<unk>"))
    model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
