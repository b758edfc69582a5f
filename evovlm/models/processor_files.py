"""Whether a vision-language model's processor and configuration agree: how many places a picture takes in a prompt.

Knows JSON files and configurations as read; no weights. If the two differ, the prompt has more or fewer places than the
vision tower gives features, or the features are of another picture than the tower was trained for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evovlm.models.families import family_of
from evovlm.models.model_files import read_object
from evovlm.models.token_ids import IdFault

FILES = ("processor_config.json", "preprocessor_config.json")
# Vision towers with a class token give one feature more than there are patches; the others have none.
CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0, "siglip2_vision_model": 0}
# Kinds like the families of `Family.counted` that have no row of their own.
COUNTED_TOO = ("llava_next_video", "video_llava", "vipllava")
SAME = ("vision_feature_select_strategy", "image_seq_length")


def processor_faults(folder: Path, config: Mapping[str, Any], tokens: Mapping[str, int] | None) -> Iterator[IdFault]:
    """Find settings of the processor that differ from config.json's; all are fatal for asking about pictures.

    tokens: the tokenizer's, None if unknown. Settings that a file omits are not compared. Raises
    CheckpointError if a file is damaged.
    """
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return
    said = dict(_said(folder))
    yield from _sizes(said, config, vision)
    for key in SAME:
        if key == "image_seq_length" and _is_counted(config):
            continue  # there it is counted, and config.json's number is not used
        yield from _differing(key, said.get(key), config.get(key), "config.json")
    if _is_counted(config):
        wanted = CLASS_TOKENS.get(str(vision.get("model_type")))
        kind = f"a {vision.get('model_type')}"
        yield from _differing("num_additional_image_tokens", said.get("num_additional_image_tokens"), wanted, kind)
    yield from _image_token(said, config, tokens)


def _is_counted(config: Mapping[str, Any]) -> bool:
    return family_of(config).counted or config.get("model_type") in COUNTED_TOO


def _sizes(
    said: Mapping[str, tuple[str, Any]], config: Mapping[str, Any], vision: Mapping[str, Any]
) -> Iterator[IdFault]:
    if not _is_counted(config):
        return  # other families resize pictures to sizes of their own, and join patches
    where = "config.json's vision_config"
    cropped = "crop_size" in said and said.get("do_center_crop", ("", True))[1] is not False
    for key, name in (("patch_size", "patch_size"), ("crop_size" if cropped else "size", "image_size")):
        file, given = said.get(key, ("", None))
        one, other = _sides(given), _sides(vision.get(name))
        if one is not None and other is not None and one != other:
            yield _fault(name, f"{key} is {_shown(one)} in {file}", f"{name} is {_shown(other)} in {where}")


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width; None if a size is not fixed to both."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size and set(size) == {"shortest_edge"}:
            size = size["shortest_edge"]
        else:
            size = [size.get("height"), size.get("width")]
    pair = [size, size] if isinstance(size, int) else size
    if isinstance(pair, (list, tuple)) and len(pair) == 2 and all(type(side) is int for side in pair):
        return pair[0], pair[1]
    return None


def _image_token(
    said: Mapping[str, tuple[str, Any]], config: Mapping[str, Any], tokens: Mapping[str, int] | None
) -> Iterator[IdFault]:
    """The token that the processor writes for pictures must be one token, with the id that config.json gives."""
    file, token = said.get("image_token", ("", None))
    token = token.get("content") if isinstance(token, Mapping) else token
    if not _is_counted(config) or not isinstance(token, str) or tokens is None:
        return
    if token not in tokens:
        yield _fault("image_token", f"image_token is {token!r} in {file}", "the tokenizer has no such token")


def _differing(key: str, said: tuple[str, Any] | None, wanted: Any, where: str) -> Iterator[IdFault]:
    if said is None or said[1] is None or wanted is None or said[1] == wanted:
        return
    yield _fault(key, f"{key} is {said[1]} in {said[0]}", f"{wanted} in {where}")


def _fault(key: str, one: str, other: str) -> IdFault:
    text = f"{one}, but {other}; take processor and configuration from the same revision"
    return IdFault(key, text, fatal=True)


def _shown(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} x {sides[1]}"


def _said(folder: Path) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Each of the processor's settings, with the file that has it; the first file's counts, as in transformers."""
    found: dict[str, tuple[str, Any]] = {}
    for name in FILES:
        content = read_object(folder / name) or {}
        inner = content.get("image_processor")
        for part in (content, inner if isinstance(inner, dict) else {}):
            for key, value in part.items():
                found.setdefault(key, (name, value))
    yield from found.items()
