"""How large a processor makes a picture, from its files: refused if a model would be given far more than any takes.

Knows the keys of transformers' image processors; opens no picture. A processor enlarges a picture to whatever size its
file says, and writes as many placeholders into a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evovlm.models.configuration import MOST_PIXELS
from evovlm.models.model_files import kind_of, read_object
from evovlm.system.bounded_json import shown
from evovlm.system.errors import CheckpointError

FILES = ("processor_config.json", "preprocessor_config.json", "image_processor_config.json")
SIDES = ("height", "width", "shortest_edge", "longest_edge")
# Qwen2-VL's family gives numbers of pixels under the names of sides.
MOST_AREA = 2**26
MOST_PINPOINTS = 1000
# Placeholders beside those of a picture's patches: one, for a vision tower with a class token.
MOST_ADDITIONAL = 64


def refuse_oversized_pictures(folder: Path) -> None:
    """Raise CheckpointError, naming file and key, if a processor would make pictures or prompts of a senseless size."""
    for name in FILES:
        content = read_object(folder / name)
        if content is None:
            continue
        inner = content.get("image_processor")
        for before, part in (("", content), ("image_processor.", inner)):
            if not isinstance(part, dict):
                if part is not None:
                    raise CheckpointError(f"{folder / name}: `{before[:-1]}` must be an object, not {kind_of(part)}")
                continue
            for key, problem in _problems(part):
                raise CheckpointError(f"{folder / name}: `{before}{key}` {problem}; correct it or fetch the file again")


def _problems(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    most = MOST_AREA if "Qwen" in str(part.get("image_processor_type")) else MOST_PIXELS
    for key in ("size", "crop_size"):
        given = part.get(key)
        sides = {f"{key}.{side}": given.get(side) for side in SIDES} if isinstance(given, dict) else {key: given}
        yield from _outside(sides, 1, most)
    patch = part.get("patch_size")  # Pixtral's has a height and a width
    sides = {f"patch_size.{side}": patch.get(side) for side in SIDES[:2]} if isinstance(patch, dict) else {}
    yield from _outside(sides or {"patch_size": patch}, 1, MOST_PIXELS)
    yield from _outside({"min_pixels": part.get("min_pixels"), "max_pixels": part.get("max_pixels")}, 1, MOST_AREA)
    additional = part.get("num_additional_image_tokens")
    yield from _outside({"num_additional_image_tokens": additional}, 0, MOST_ADDITIONAL)
    pinpoints = part.get("image_grid_pinpoints")
    if pinpoints is not None and not (isinstance(pinpoints, list) and 1 <= len(pinpoints) <= MOST_PINPOINTS):
        yield "image_grid_pinpoints", f"must be a list of at most {MOST_PINPOINTS:,} sizes"
    elif pinpoints is not None:
        for number, pair in enumerate(pinpoints):
            if not (isinstance(pair, list) and len(pair) == 2):
                yield f"image_grid_pinpoints.{number}", "must be a height and a width"
                return
            yield from _outside({f"image_grid_pinpoints.{number}": side for side in pair}, 1, MOST_PIXELS)


def _outside(values: Mapping[str, Any], least: int, most: int) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= most):
            told = kind_of(value) if isinstance(value, dict | list) else shown(value)
            yield key, f"must be a whole number from {least} to {most:,}, not {told}"
