"""`convert`: a pickle checkpoint to safetensors. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evovlm.cli._options import Download, DryRun
from evovlm.cli.limits import MOST_GIGABYTES, fraction
from evovlm.cli.paths import new_folder


def convert(
    model: Annotated[str, typer.Argument(help="Folder or hub id of a checkpoint that has only .bin files.")],
    out: Annotated[Path, typer.Argument(callback=new_folder, help="Folder to write; must not exist.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    dry_run: DryRun = False,
    download: Download = False,
    max_shard_gb: Annotated[
        float,
        typer.Option(
            *("--max-shard-gb", "--shard-size"),
            **fraction(0.0001, MOST_GIGABYTES),
            help="Maximum size of a weights file, in GB.",
        ),
    ] = 5.0,
) -> None:
    """Convert pickled weights (pytorch_model.bin) to safetensors, with configuration and tokenizer.

    The pickle is read by torch's weights-only loader in a process of its own with little memory and no right to write.

    \b
    Examples:
      evovlm convert WizardLM/WizardMath-7B-V1.1 wizardmath
      evovlm convert GAIR/Abel-7B-002 abel --download --dry-run
    """
    from evovlm.cli.console import ERR, OUT
    from evovlm.cli.progress import shown, waiting
    from evovlm.models.checkpoint_writer import CheckpointWriter, refuse_existing
    from evovlm.models.convert import Conversion
    from evovlm.models.open_model import find_to_convert
    from evovlm.system.units import size

    refuse_existing(out)
    most = int(max_shard_gb * 1e9)
    folder = find_to_convert(model, revision, Path.cwd(), download=download)
    with Conversion(folder, model) as conversion:
        with waiting("reading the pickles"):
            plan = conversion.plan()
        told = f"{len(plan.infos)} tensors, {size(plan.nbytes)}"
        told += "".join(f"; {name} left out (tied to the embeddings)" for name in plan.tied)
        if plan.note is not None:
            ERR.print(plan.note, markup=False, soft_wrap=True)
        if dry_run:
            CheckpointWriter(out, plan.infos, most).check_place()
            files = f"{len(plan.files.shards)} files of {folder}, {size(plan.files.nbytes)}"
            OUT.print(f"would read {files}, and write {told} to {out}", markup=False, soft_wrap=True)
            return
        with shown() as watch:
            watch.phase("check and write", 0)

            def show(done: int, total: int) -> None:
                watch.at(done, total, f"{size(done)} of {size(total)}", counted=False)

            left_out = conversion.write(plan, out, max_shard_bytes=most, progress=show)
    OUT.print(f"{out}: {told}", markup=False, soft_wrap=True)
    for sentence in left_out:
        OUT.print(sentence, markup=False, soft_wrap=True)
