"""Loads processors of vision-language models for pictures and text, without the part that reads videos.

Knows transformers' processor classes; no models. Reading videos needs torchvision, also where only the processor is
made; pictures do not: transformers has each image processor in plain PIL and NumPy too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evovlm.system.errors import CheckpointError

VIDEO = "video_processor"
PACKAGES = ("torchvision", "num2words")  # what some families' processors need besides
# Files of a checkpoint that may name the class of its processor, in the order in which transformers looks.
NAMING = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


def load_processor(folder: Path) -> Any:
    """The processor of a checkpoint folder.

    Pictures are prepared by PIL also where torchvision is installed, so that answers do not depend on that. Raises
    CheckpointError if it needs a package that is not installed, and what transformers raises if there is none, or it is
    damaged.
    """
    try:
        return _loaded(folder)
    except (ImportError, ValueError) as error:
        lacking = next((name for name in PACKAGES if name in str(error) and find_spec(name) is None), None)
        if lacking is None:
            raise
        raise CheckpointError(
            f"{folder}: its processor cannot do without the package {lacking}, which is not installed; run `pip install"
            f" {lacking}`, or choose another model"
        ) from error


def _loaded(folder: Path) -> Any:
    from transformers import AutoProcessor

    name = _class_name(folder)
    kind = None if name is None else processor_class(name)
    if kind is None:
        return AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    kind = without_video(kind) if VIDEO in kind.get_attributes() or _needs_torchvision(name) else kind
    return kind.from_pretrained(folder, trust_remote_code=False, backend="pil")


def processor_class(name: str) -> Any | None:
    """transformers' processor class of that name, also where torchvision is missing; None if there is none."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    for family, known in PROCESSOR_MAPPING_NAMES.items():
        if known != name:
            continue
        place = f"transformers.models.{family.replace('-', '_')}"
        with _without_torchvision(place):
            try:
                # transformers itself gives a placeholder for the class if torchvision is missing.
                return getattr(import_module(f"{place}.processing_{family.replace('-', '_')}"), name)
            except (ImportError, AttributeError):
                continue
    return None


@contextmanager
def _without_torchvision(place: str) -> Iterator[None]:
    """Let a processor's module take a function on sizes from the PIL image processor where it names torchvision's."""
    wanted = f"{place}.image_processing_{place.rpartition('.')[2]}"
    if find_spec("torchvision") is not None or wanted in sys.modules:
        yield
        return
    try:
        sys.modules[wanted] = import_module(wanted.replace("image_processing_", "image_processing_pil_"))
    except ImportError:
        yield
        return
    try:
        yield
    finally:
        del sys.modules[wanted]


@cache
def without_video(kind: Any) -> Any:
    """A processor class without its part for videos; it is saved under the same name."""
    whole = kind.get_attributes()
    parts = [name for name in whole if name != VIDEO]

    def arguments(cls: Any, *args: Any, **more: Any) -> list[Any]:
        found: list[Any] = kind._get_arguments_from_pretrained.__func__(cls, *args, **more)
        if VIDEO in whole:
            found.insert(whole.index(VIDEO), None)  # classes differ in whether it has a default
        return found

    methods = {
        "get_attributes": classmethod(lambda cls: parts),
        "_get_arguments_from_pretrained": classmethod(arguments),
    }
    made = type(kind.__name__, (kind,), methods)
    made.__module__ = kind.__module__
    return made


def _needs_torchvision(name: str | None) -> bool:
    import transformers

    return bool(getattr(getattr(transformers, str(name), None), "is_dummy", False))


def _class_name(folder: Path) -> str | None:
    """The class that the checkpoint names, or the one of its architecture."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    for file in NAMING:
        if (folder / file).is_file():
            name = json.loads((folder / file).read_text(encoding="utf-8")).get("processor_class")
            if isinstance(name, str):
                return name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found: str | None = PROCESSOR_MAPPING_NAMES.get(config.get("model_type"))
    return found
