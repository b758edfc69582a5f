"""`evovlm bench rehearse`: make models and data of a size, and run every command of a whole job on them.

Knows the steps by name, and the folder in which they run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from evovlm.cli.console import ERR, OUT, note
from evovlm.cli.paths import new_folder
from evovlm.system.device import check_device
from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged
from evovlm.system.units import duration
from evovlm.system.version import commit, hardware, versions
from evovlm_benchmarks.mergekit_program import mergekit_program
from evovlm_benchmarks.rehearsal.data import write_data
from evovlm_benchmarks.rehearsal.folder import begin_folder, is_open, steps_to_run
from evovlm_benchmarks.rehearsal.measured import disk_rate, row_of
from evovlm_benchmarks.rehearsal.models import BASE, VLM, Maker, is_whole, tokenizers
from evovlm_benchmarks.rehearsal.models import SEEDS as MODELS
from evovlm_benchmarks.rehearsal.rows import ROWS, Row, draw, keep, markdown, read_rows, table
from evovlm_benchmarks.rehearsal.sizes import SIZES, Size
from evovlm_benchmarks.rehearsal.steps import (
    ALONE,
    RECIPE,
    RECIPES,
    SEEING,
    STEPS,
    STUDY,
    Step,
    words_of,
    write_recipes,
)
from evovlm_benchmarks.rehearsal.watching import evovlm, gpu_id, watch

DATA, APP = "make data", "app"
NAMES = (DATA, *(step.name for step in STEPS), APP)
SPARE = 4.2  # times a model's bytes: three models and a merged checkpoint


@dataclass(frozen=True)
class Rehearsal:
    """A rehearsal of one size in one folder.

    device: as in the other commands; tokenizer: a folder, or None; mergekit: the path of mergekit-yaml, or None.
    """

    folder: Path
    size: Size
    device: str
    tokenizer: Path | None
    mergekit: Path | None

    def rows(self, chosen: Collection[str]) -> Iterator[Row]:
        """Run the chosen steps; yields each row as it is kept."""
        if DATA in chosen:
            yield self._kept(self._write_data())
        copied = 0.0
        for step in STEPS:
            if step.name not in chosen:
                continue
            yield from self._provide(step.reads)
            if step.floor == "copy" and not copied:
                copied = disk_rate(self.folder, next((self.folder / BASE).glob("*.safetensors")))
            yield self._kept(self._run(step, copied))
        if APP in chosen:
            from evovlm_benchmarks.rehearsal.app_steps import app_rows

            yield from self._provide(SEEING)
            yield from map(self._kept, app_rows(self.folder, self.device))

    def _write_data(self) -> Row:
        began = time.perf_counter()
        write_data(self.folder, self.size)
        write_recipes(self.folder, self.size)
        return {"step": DATA, "seconds": time.perf_counter() - began}

    def _provide(self, names: Sequence[str]) -> Iterator[Row]:
        """Make the models that are not whole, after deleting those that are not among the names; yields their rows."""
        missing = [name for name in names if not is_whole(self.folder / name)]
        for other in MODELS if missing else ():
            if other not in names or other in missing:
                shutil.rmtree(self.folder / other, ignore_errors=True)
        for name in missing:
            began = time.perf_counter()
            told, sees = tokenizers(self.size, self.tokenizer)
            maker = Maker(self.folder, self.size, torch.device(self.device))
            nbytes = maker.vision_model(name, sees) if name == VLM else maker.language_model(name, told)
            yield self._kept({"step": f"make {name}", "seconds": time.perf_counter() - began, "bytes": nbytes})

    def _run(self, step: Step, copied: float) -> Row:
        """One command's row; what it wrote before, and what it need not leave behind, is deleted."""
        for name in (step.study, *step.removes):
            if name:
                shutil.rmtree(self.folder / name, ignore_errors=True)
        words = words_of(step, self.size, self.device)
        command = [str(self.mergekit), *words] if step.mergekit else evovlm(*words)
        done = watch(command, self.folder, gpu=gpu_id(self.device))
        row = row_of(step, done, self.folder, copied)
        (self.folder / "logs").mkdir(exist_ok=True)
        (self.folder / "logs" / f"{step.name}.txt").write_text(done.output, encoding="utf-8")
        for name in step.removes:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return row

    def _kept(self, row: Row) -> Row:
        row |= {"hardware": hardware(self.device), "versions": versions(), "commit": commit()}
        keep(self.folder, row)
        return row


def rehearse(
    size: Annotated[str, typer.Option(help=f"Size of the models: {', '.join(SIZES)}.")] = "zoo",
    work: Annotated[
        Path, typer.Option(callback=new_folder, help="Folder for models, data and rows; the same command continues.")
    ] = Path("rehearsal"),
    steps: Annotated[
        str | None, typer.Option(help=f"Steps, separated by `;`: {'; '.join(NAMES)}. Default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to run: cpu, cuda.")] = "cpu",
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with the models' tokenizer; default: one of bytes.")
    ] = None,
    mergekit: Annotated[
        Path | None, typer.Option(help="mergekit-yaml of another environment: it merges the same pair.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show the commands and the disk needed, and stop.")] = False,
) -> None:
    """Make checkpoints of real shapes, and time every command of a whole job on them, from files.

    Size 7b needs a GPU, and 61 GB for models and what is written for a while. Nothing is downloaded.

    Examples:
      evovlm bench rehearse --work /tmp/zoo-rehearsal
      evovlm bench rehearse --size 7b --work /data/rehearsal --device cuda
      evovlm bench rehearse --size 7b --work /data/rehearsal --device cuda --steps "make data; check"
    """
    chosen = _chosen(size, steps, device, mergekit)
    if dry_run:
        _show(chosen, SIZES[size], device)
        return
    check_device(device)
    if tokenizer is not None and not tokenizer.is_dir():
        raise UserError(f"--tokenizer {tokenizer}: not a folder; give one with tokenizer.json")
    program = mergekit_program(mergekit)
    tokenizers(SIZES[size], tokenizer)  # refuses one that does not fit
    begin_folder(work, size)
    open_steps = _open_steps(work, chosen)
    _refuse_full(work, SIZES[size])
    for row in Rehearsal(work, SIZES[size], device, tokenizer, program).rows(open_steps):
        told = f"failed: {row['failed']}" if "failed" in row else duration(row["seconds"])
        ERR.print(f"{row['step']}: {told}")
    found = list(read_rows(work, lambda text: None).values())  # said above
    OUT.print(table(found, f"Rehearsal, size {size}, {hardware(device)}"))
    (work / "table.md").write_text(markdown(found), encoding="utf-8")
    draw(found, work / "table.svg")
    OUT.print(f"{work / 'table.md'}, {work / 'table.svg'}; each command's output is in {work / 'logs'}")
    if any("failed" in row for row in found):
        raise UserError(
            f"{work / ROWS}: not every step ended well; the same command tries those again"
            " (a step needs the steps before it)"
        )


def _chosen(size: str, steps: str | None, device: str, mergekit: Path | None) -> list[str]:
    """The names of the steps to run. Raises UserError for an unknown size or step."""
    if size not in SIZES:
        raise UserError(f"--size: choose from {', '.join(SIZES)}")
    out = {s.name for s in STEPS if (s.gpu and not device.startswith("cuda")) or (s.mergekit and mergekit is None)}
    there = [name for name in NAMES if name not in out]
    if steps is None:
        return there
    found = [name.strip() for name in steps.split(";")]
    for name in found:
        if name not in there:
            raise UserError(f"--steps: {abridged(name)!r} is none of them; choose from: {'; '.join(there)}")
    return found


def _open_steps(work: Path, chosen: Sequence[str]) -> set[str]:
    """The steps that remain to be run. Raises UserError if what one of them reads is missing."""
    done = read_rows(work, note)
    if APP in chosen:
        from evovlm_benchmarks.rehearsal.app_steps import STEPS as ASKED

        if any(is_open(done.get(name)) for name in ASKED):
            done.pop(APP, None)
        else:
            done[APP] = {"step": APP}
    needs = {DATA: {}, **{step.name: _needs(step) for step in STEPS}, APP: {DATA: RECIPE}}
    return steps_to_run(work, chosen, done, needs)


def _needs(step: Step) -> dict[str, str]:
    """What a step reads besides models, which are made when they are needed: files by the step that writes them."""
    words = step.words.split()
    recipe = next((name for name in RECIPES if name in words), None)
    found = {} if recipe is None else {DATA: recipe}
    return found | ({ALONE: f"{STUDY}/result.json"} if STUDY in words and step.study != STUDY else {})


def _show(chosen: Sequence[str], size: Size, device: str) -> None:
    for step in STEPS:
        if step.name in chosen:
            program = "mergekit-yaml" if step.mergekit else "evovlm"
            OUT.print(f"{step.name}: {program} {' '.join(words_of(step, size, device))}")
    OUT.print(f"disk: {_disk(size) / 1e9:.1f} GB")


def _disk(size: Size) -> float:
    """About the bytes that lie on the disk at once: two per weight of three models and a merged one."""
    return SPARE * 2.0 * sum(torch.Size(shape).numel() for _, shape in size.tower.tensors())


def _refuse_full(work: Path, size: Size) -> None:
    there = sum(path.stat().st_size for name in MODELS for path in (work / name).glob("*.safetensors"))
    free, need = shutil.disk_usage(work).free, _disk(size) - there
    if free < need:
        raise UserError(f"--work {work}: {need / 1e9:.1f} GB are needed there, and {free / 1e9:.1f} are free")
