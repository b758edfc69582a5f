"""What a study leaves beside its tables: the winner as a checkpoint, and pictures of the test for the report.

Knows assemblies and builds; no searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evovlm.merging.assembly import Assembly
from evovlm.merging.build import build_checkpoint, card_facts, output_tensors
from evovlm.recipe.yaml_file import moved
from evovlm.system.progress import Watch
from evovlm.tasks import Item

PICTURES = 12


def write_winner(assembly: Assembly, out: Path, result: dict[str, Any], watch: Watch) -> Path:
    """The winner as an ordinary checkpoint below `out`; returns its folder.

    A winner that differs from the one that lies there gets a folder named by its digest. `result` goes on its card.
    """
    folder = out / "checkpoint"
    if folder.exists():
        known = folder / "recipe.yaml"
        digest = moved(assembly.recipe, assembly.root, folder).digest()
        if known.exists() and digest in known.read_text(encoding="utf-8").split("\n", 1)[0]:
            return folder.resolve()
        folder = out / f"checkpoint-{assembly.recipe.digest()[:8]}"
        if folder.exists():
            return folder.resolve()
    watch.phase("checkpoint", len(output_tensors(assembly)))
    facts = card_facts(assembly, held_out=result)
    build_checkpoint(assembly, folder, facts=facts, progress=lambda done, total: watch.step(f"{done / total:.0%}"))
    return folder.resolve()


def save_pictures(folder: Path, items: Sequence[Item]) -> None:
    """The images of the first items, for the report."""
    folder.mkdir(exist_ok=True)
    for item in items[:PICTURES]:
        path = folder / f"{item.id}.png"
        if item.image is not None and not path.exists():
            item.image().convert("RGB").save(path)
