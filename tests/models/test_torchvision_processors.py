"""Pictures as transformers' PIL processors prepare them, beside its default ones, which need torchvision."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from evovlm.models.processors import load_processor
from tests.vlm_families import FAMILIES, save_family

SIZES = [(50, 40), (60, 200), (140, 100), (640, 480), (333, 77)]
# In units of a normalised channel, of which a step of 1/255 is about 0.015: the two resize with other rounding.
MOST, MEAN = 0.15, 0.01


def picture(size: tuple[int, int]) -> Image.Image:
    """Smooth colours with an edge, so that resizing matters everywhere."""
    across, down = torch.linspace(0, 255, size[0]), torch.linspace(0, 255, size[1])
    channels = [across.expand(size[1], -1), down[:, None].expand(-1, size[0]), (across + down[:, None]) / 2]
    image = Image.fromarray(torch.stack(channels, dim=-1).byte().numpy())
    image.paste((250, 240, 200), (0, 0, size[0] // 2, size[1] // 3))
    return image


def flat(values: Any) -> torch.Tensor:
    """Pixels of all tiles in a row; some processors give a list of tiles."""
    parts = values if isinstance(values, list | tuple) else [values]
    return torch.cat([torch.as_tensor(part).float().flatten() for part in parts])


def backend(processor: Any) -> str:
    return "pil" if type(processor.image_processor).__name__.endswith("Pil") else "torchvision"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_are_prepared_alike_with_and_without_torchvision(name: str, tmp_path: Path):
    pytest.importorskip("torchvision", exc_type=Exception)
    from transformers import AutoImageProcessor

    made = save_family(name, tmp_path / "vlm")
    ours, theirs = load_processor(tmp_path / "vlm"), load_processor(tmp_path / "vlm")
    # The whole processor cannot be loaded by its default class, which asks for a video part that our folders lack.
    theirs.image_processor = AutoImageProcessor.from_pretrained(tmp_path / "vlm", backend="torchvision")
    assert (backend(ours), backend(theirs)) == ("pil", "torchvision")
    for size in SIZES:
        text, image = f"{made.mark}\nwhat is this", picture(size)
        mine, other = (one(text=text, images=image, return_tensors="pt") for one in (ours, theirs))
        assert mine.keys() == other.keys()
        for key in mine.keys() - {"pixel_values"}:  # tokens, grids, sizes, masks
            assert torch.equal(torch.as_tensor(mine[key]), torch.as_tensor(other[key])), f"{key} at {size}"
        apart = (flat(mine["pixel_values"]) - flat(other["pixel_values"])).abs()
        assert apart.max() < MOST, f"{size}: {apart.max():.3f}"
        assert apart.mean() < MEAN, f"{size}: {apart.mean():.4f}"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_are_prepared_by_pil_on_every_machine(name: str, tmp_path: Path):
    save_family(name, tmp_path / "vlm")
    assert backend(load_processor(tmp_path / "vlm")) == "pil"
