"""Prepared prompts: tokens and vision features, computed once and used for every candidate.

Knows transformers' processors and the image protocol of LLaVA; merges and scores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from evovlm.engines.chat import IMAGE, added_tokens, in_chat, refuse_marks
from evovlm.models.families import family_of
from evovlm.models.library_faults import explained
from evovlm.models.panics import without_reports
from evovlm.system.errors import DataError, UnfitImage
from evovlm.tasks.protocol import Generation, Item

# Attributes of processors that name what stands for a picture in a prompt.
MARKS = ("image_token", "boi_token")


@dataclass(frozen=True)
class Prompt:
    """One question as token ids, and its image's features [image tokens, hidden] or None without an image."""

    ids: Tensor  # int64 [length]
    features: Tensor | None
    key: str = ""  # the item's id, which seeds the draws of a sampled answer
    # What is added at the image tokens after each of the first layers: [layers, image tokens, hidden].
    deep: Tensor | None = None
    # Positions in time, height and width, int64 [3, length]; None: 0, 1, 2, ... in all three.
    axes: Tensor | None = None
    # The processor's token types, for models in which some tokens see later ones (Gemma 3, PaliGemma): int64 [length].
    types: Tensor | None = None

    @cached_property
    def last(self) -> int:
        """The last token's id; read from the device only once."""
        return int(self.ids[-1])

    @cached_property
    def shift(self) -> int:
        """The position of the first token of the answer, less the number of tokens before it. Read only once."""
        return 0 if self.axes is None else int(self.axes.max()) + 1 - len(self.ids)


@dataclass
class Prepared:
    """Prompts in item order and the batch plan: indices sorted by length, equal lengths in item order.

    If memory runs out, the engine splits batches of the plan, for this and all later candidates; `halved` lists the
    batch sizes that did not fit.
    """

    prompts: list[Prompt]
    generation: Generation
    batches: list[list[int]]
    halved: list[int] = field(default_factory=list)
    plan: Any = None  # the lean path's grouping of the prompts, kept for the next candidate

    def halve(self, rows: int) -> None:
        """Record that `rows` rows do not fit, and split all batches of more than half as many."""
        half = (rows + 1) // 2
        self.halved.append(rows)
        self.batches = [batch[at : at + half] for batch in self.batches for at in range(0, len(batch), half)]


def complete_processor(processor: Any, model: Any) -> None:
    """Set, in place, the processor's settings for the number of tokens per image, which older checkpoints omit."""
    if getattr(processor, "patch_size", 0) is not None:
        return
    processor.patch_size = model.config.vision_config.patch_size
    processor.vision_feature_select_strategy = model.config.vision_feature_select_strategy
    # A vision tower with a class token gives one feature more than there are patches.
    names = (name for name, _ in model.model.vision_tower.named_parameters())
    processor.num_additional_image_tokens = int(any(name.endswith("class_embedding") for name in names))


def plan_batches(lengths: Sequence[int], batch: int, *, alike: bool = False) -> list[list[int]]:
    """Return item indices in batches of similar length, the longest first, so that memory runs out early or never.

    `batch`: the most items per batch. `alike`: only prompts of equal length share a batch, so that none is padded.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        full = not batches or len(batches[-1]) == batch
        if full or (alike and lengths[batches[-1][0]] != lengths[index]):
            batches.append([])
        batches[-1].append(index)
    return batches


def prepared_of(prompts: list[Prompt], generation: Generation, batch: int) -> Prepared:
    """Return the prompts with the batch plan for their settings; `batch`: the most prompts per batch."""
    # A repetition penalty would apply to padding too, so nothing may be padded then.
    alike = generation.repetition_penalty != 1.0
    return Prepared(prompts, generation, plan_batches([len(prompt.ids) for prompt in prompts], batch, alike=alike))


def cut(text: str, stop: Sequence[str]) -> str:
    """Return the text before the first stop string."""
    ends = [place for place in (text.find(string) for string in stop) if place >= 0]
    return text[: min(ends, default=len(text))]


def open_image(item: Item) -> Image.Image:
    """Return the item's image as RGB. Raises DataError naming the item if it cannot be read."""
    assert item.image is not None
    try:
        return item.image().convert("RGB")
    except DataError:
        raise
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"item {item.id}: its image cannot be read ({error}); replace the file or drop the item"
        ) from None


def tokenize(tokenizer: Any, text: str) -> Tensor:
    """Return the token ids of one prompt, with the special tokens that the tokenizer adds: int64 [length]."""
    return _ids(tokenizer, text)


def _ids(tokenizer: Any, text: str, **more: Any) -> Tensor:
    with explained(Path(tokenizer.name_or_path), "its tokenizer fails"), without_reports():
        ids: Tensor = tokenizer(text, return_tensors="pt", **more)["input_ids"][0]
    return ids


def _inputs(processor: Any, item: Item, text: str, image: Image.Image, more: dict[str, Any]) -> Any:
    try:
        return processor(text=text, images=image, return_tensors="pt", **more)
    except (ValueError, IndexError, StopIteration) as error:
        raise UnfitImage(
            f"item {item.id}: the model's processor refuses its prompt with an image of {image.width} x {image.height}"
            f" pixels ({error}); a prompt must contain <image> once, and some models refuse very narrow images"
        ) from None


@torch.inference_mode()
def see(
    model: Any, processor: Any, items: Sequence[Item], generation: Generation, refuse: Callable[[Prompt], None]
) -> list[Prompt]:
    """Prepare items for a vision-language model: the processor's tokens, and features from the model's vision tower.

    Equal images are encoded once. An item without an image gets a prompt without an image placeholder. `refuse`: as in
    `blind`. Raises DataError if an image cannot be read or a prompt does not fit its one image.
    """
    unseen = [item for item in items if item.image is None]
    without = iter(blind(processor, unseen, generation, model.device, refuse))
    with_image = iter(_texts(model, processor, [item for item in items if item.image is not None], generation))
    prompts: list[Prompt] = []
    seen: dict[bytes, Seen] = {}
    for item in items:
        if item.image is None:
            prompts.append(next(without))
            continue
        image, text = open_image(item), next(with_image)
        more = added_tokens(processor, text) if generation.chat else {}
        with (
            explained(Path(model.name_or_path), f"its processor cannot read the picture of item {item.id}"),
            without_reports(),
        ):
            try:
                inputs = _inputs(processor, item, text, image, more).to(model.device)
            except UnfitImage:
                if generation.chat:
                    refuse_marks(processor, text, _marks(model, processor), _asked(generation, item))
                raise
        places = int((inputs["input_ids"][0] == model.config.image_token_id).sum())
        if generation.chat and not places:
            refuse_marks(processor, text, _marks(model, processor), _asked(generation, item))
        key = sha256(f"{image.size}".encode() + image.tobytes()).digest()
        if key not in seen:
            seen[key] = look(model, inputs)
        prompt = seeing_prompt(model, inputs, seen[key], item.id)
        if places != len(seen[key].features):
            if generation.chat:
                refuse_marks(processor, text, _marks(model, processor), _asked(generation, item))
            raise DataError(
                f"item {item.id}: its prompt has {places} image tokens but its image {len(seen[key].features)}"
                " features; a prompt must contain <image> once"
            )
        prompts.append(_base_tile(model, prompt) if generation.base_tile else prompt)
        refuse(prompts[-1])
    return prompts


def _texts(model: Any, processor: Any, items: Sequence[Item], generation: Generation) -> list[str]:
    """The prompts of questions with a picture, as the processor takes them."""
    if generation.chat:
        asked = [_asked(generation, item) for item in items]
        texts = in_chat(processor, asked, sees=True, names=[item.id for item in items])
    else:
        template = generation.template.replace(IMAGE, picture_mark(model, processor))
        texts = [template.replace("{question}", item.question) for item in items]
    ended = family_of({"model_type": model.config.model_type}).ends_line
    return [text.removesuffix("\n") for text in texts] if ended else texts


def _asked(generation: Generation, item: Item) -> str:
    """What a chat template is given: a text with <image> where the picture is. Raises DataError if it is not once."""
    text = generation.template.replace("{question}", item.question)
    if text.count(IMAGE) != 1:
        raise DataError(
            f"item {item.id}: its prompt contains <image> {text.count(IMAGE)} times, in the preset's template and the"
            " question; a prompt about a picture must contain <image> once"
        )
    return text


def _marks(model: Any, processor: Any) -> list[str]:
    """What the processor takes for a picture's place, the family's own mark first."""
    named = (getattr(processor, name, None) for name in MARKS)
    return [mark for mark in (picture_mark(model, processor), *named) if isinstance(mark, str) and mark]


def picture_mark(model: Any, processor: Any) -> str:
    """What stands for the picture in a prompt of the model: its family's mark, or its processor's token."""
    mark = family_of({"model_type": model.config.model_type}).picture
    return mark or getattr(processor, "image_token", None) or IMAGE


def blind_prompt(template: str, question: str) -> str:
    """Return the prompt for a question without an image: the template without its image placeholder."""
    return template.replace("<image>\n", "").replace("<image>", "").replace("{question}", question)


def blind(
    reader: Any, items: Sequence[Item], generation: Generation, device: Any, refuse: Callable[[Prompt], None]
) -> list[Prompt]:
    """Return prompts without an image, on `device`. Raises DataError as `in_chat` does.

    reader: a tokenizer, or a processor with one. `refuse` is called with each prompt before the next one is tokenised,
    since many that do not fit would take minutes.
    """
    tokenizer = getattr(reader, "tokenizer", reader)
    texts = [blind_prompt(generation.template, item.question) for item in items]
    if generation.chat:
        texts = in_chat(reader, texts, names=[item.id for item in items])
    prompts: list[Prompt] = []
    for item, text in zip(items, texts, strict=True):
        more = added_tokens(reader, text) if generation.chat else {}
        prompt = Prompt(_ids(tokenizer, text, **more), None, item.id)
        refuse(prompt)
        prompts.append(replace(prompt, ids=prompt.ids.to(device)))
    return prompts


def _base_tile(model: Any, prompt: Prompt) -> Prompt:
    """The prompt with the image as a whole, without tiles: its first features and a newline, as LLaVA-NeXT packs one.

    Prompts of other families are unchanged.
    """
    newline = getattr(model.model, "image_newline", None)
    if newline is None or prompt.features is None or not family_of({"model_type": model.config.model_type}).base_tile:
        return prompt
    eyes = model.config.vision_config
    whole = prompt.features[: (eyes.image_size // eyes.patch_size) ** 2]
    features = torch.cat([whole, newline[None].to(whole)])
    places = (prompt.ids == model.config.image_token_id).nonzero().squeeze(1)
    kept = torch.ones_like(prompt.ids, dtype=torch.bool)
    kept[places[len(features) :]] = False
    return Prompt(prompt.ids[kept], features, prompt.key)


class Seen(NamedTuple):
    """What a vision tower makes of one image: features [image tokens, hidden], and `Prompt.deep`."""

    features: Tensor
    deep: Tensor | None


def look(model: Any, inputs: Any) -> Seen:
    """Return one image's features, as the model's own forward pass would insert them.

    `inputs`: the processor's; families differ in which of them describe the image (grids, sizes, tiles).
    """
    wanted = signature(model.get_image_features).parameters
    given = {name: inputs[name] for name in wanted if name in inputs}
    found = model.get_image_features(**given | {"pixel_values": inputs["pixel_values"].to(model.dtype)})
    deep = getattr(found, "deepstack_features", None)
    return Seen(_joined(found.pooler_output), torch.stack([_joined(layer) for layer in deep]) if deep else None)


def _joined(features: Any) -> Tensor:
    """Features of all tiles of an image, [image tokens, hidden]."""
    whole = features if isinstance(features, Tensor) else torch.cat(list(features), dim=0)
    return whole.flatten(end_dim=-2)


def seeing_prompt(model: Any, inputs: Any, seen: Seen, key: str) -> Prompt:
    """The prompt of a processor's inputs [1, length] and the features of its image."""
    place = getattr(model.model, "get_rope_index", None)
    axes = None
    if place is not None:  # text is at one position in time, height and width; a picture spreads over height and width
        wanted = signature(place).parameters
        axes = place(**{name: inputs[name] for name in wanted if name in inputs})[0][:, 0]
    types = inputs["token_type_ids"][0] if "token_type_ids" in inputs else None
    return Prompt(inputs["input_ids"][0], seen.features, key, deep=seen.deep, axes=axes, types=types)
