"""Processors on machines that lack a package, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers as tf

from tests.command import Done
from tests.hub_layouts import tokenizer_with
from tests.vlm_families import EYES, save_family, text_of

# Packages that are as if they were not installed.
HIDING = """
import importlib.machinery
find = importlib.machinery.PathFinder.find_spec
def find_other(name, *more):
    return None if name.partition(".")[0] in {hidden!r} else find(name, *more)
importlib.machinery.PathFinder.find_spec = staticmethod(find_other)
"""


def evaluate(folder: Path, *hidden: str) -> Done:
    """`evovlm evaluate` of a model, in a process in which some packages are hidden."""
    (folder.parent / "sitecustomize.py").write_text(HIDING.format(hidden=hidden), encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(folder.parent), os.environ.get("PYTHONPATH", "")]))
    words = ("evaluate", folder.name, "--data", "zoo-vqa:test", "--items", "1")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "evovlm", *words],
        env=dict(os.environ) | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        cwd=folder.parent,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def save_command_a_vision(folder: Path) -> None:
    """A family of which transformers prepares pictures with torchvision alone."""
    tokenizer = tokenizer_with(image_token="<image>")
    vision = {"model_type": "siglip_vision_model", **EYES, "image_size": 28, "patch_size": 7, "vision_use_head": False}
    config = tf.Cohere2VisionConfig(
        text_config=text_of("cohere2"), vision_config=vision, image_token_id=tokenizer.image_token_id,
        alignment_intermediate_size=64,
    )  # fmt: skip
    tf.Cohere2VisionForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images = {"image_processor_type": "Cohere2VisionImageProcessor", "size": {"height": 28, "width": 28}}
    named = {"processor_class": "Cohere2VisionProcessor", "image_processor": images}
    (folder / "processor_config.json").write_text(json.dumps(named), encoding="utf-8")


def assert_named(done: Done, package: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert f"its processor cannot do without the package {package}, which is not installed" in said[0]
    assert f"`pip install {package}`" in said[0]
    assert "download it again" not in said[0]


@pytest.mark.slow
def test_a_family_that_needs_torchvision_says_so_in_one_sentence(tmp_path: Path):
    save_command_a_vision(tmp_path / "vlm")
    assert_named(evaluate(tmp_path / "vlm", "torchvision"), "torchvision")


@pytest.mark.slow
def test_smolvlm_without_num2words_says_so_in_one_sentence(tmp_path: Path):
    save_family("smolvlm", tmp_path / "vlm")
    assert_named(evaluate(tmp_path / "vlm", "num2words"), "num2words")


@pytest.mark.slow
def test_other_families_need_neither(tmp_path: Path):
    save_family("qwen2_5_vl", tmp_path / "vlm")
    done = evaluate(tmp_path / "vlm", "torchvision", "num2words")
    assert done.returncode == 0, done.stderr
