"""`merge`: build a checkpoint from a recipe. Knows typer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evovlm.cli._options import Download, DryRun, RecipeArgument, Vlms, recipe_for
from evovlm.cli.limits import MOST_GIGABYTES, MOST_THREADS, fraction
from evovlm.cli.paths import new_folder

if TYPE_CHECKING:
    import torch

    from evovlm.merging.assembly import Assembly


def merge(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Argument(callback=new_folder, help="Folder to write; must not exist.")],
    dry_run: DryRun = False,
    download: Download = False,
    vlms: Vlms = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MOST_THREADS, help="Maximum number of tensors merged at a time.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device that merges, to the same bits: cpu, cuda, cuda:1, or auto (a GPU if one works).")
    ] = "cpu",
    max_shard_gb: Annotated[
        float,
        typer.Option(**fraction(0.0001, MOST_GIGABYTES), help="Maximum size of a weights file, in GB."),
    ] = 5.0,
) -> None:
    """Merge models as a recipe describes, into an ordinary Hugging Face checkpoint.

    Examples:
      evovlm merge zoo-vlm merged
      evovlm merge their-mergekit-recipe.yml merged --dry-run
      evovlm merge two-llavas.yml merged --vlms whole
      evovlm merge evovlm-jp merged --device cuda
    """
    from evovlm.cli.console import ERR, OUT, findings_table, note
    from evovlm.cli.progress import shown, waiting
    from evovlm.merging.assembly import assemble
    from evovlm.merging.build import build_checkpoint
    from evovlm.system.device import gpu_named
    from evovlm.system.units import size

    gpu = gpu_named(device)
    loaded = recipe_for(recipe, vlms)
    with waiting("checking recipe and models"):
        assembly = assemble(loaded, loaded.root, download=download, out=out)
    told = [finding for finding in assembly.findings if finding.level == "warning" or dry_run]
    if told:
        ERR.print(findings_table(told))
    if dry_run:
        _print_plan(assembly, out, gpu)
        return
    with shown() as watch:
        watch.phase("merge", 0)

        def show(done: int, total: int) -> None:
            watch.at(done, total, f"{size(done)} of {size(total)}", counted=False)

        report = build_checkpoint(
            assembly,
            out,
            progress=show,
            threads=threads,
            max_shard_bytes=int(max_shard_gb * 1e9),
            device=gpu,
            tell=note,
        )
    OUT.print(f"{report.folder}: {report.tensors} tensors, {size(report.nbytes)}, recipe {assembly.pinned.digest()}")
    if report.folding is not None:
        OUT.print(report.folding)


def _print_plan(assembly: Assembly, out: Path, gpu: torch.device | None) -> None:
    """Say what would be written and what would merge it, and on the CPU how long that takes."""
    from evovlm.cli.console import OUT
    from evovlm.cli.progress import waiting
    from evovlm.merging.build import merging_seconds, output_tensors
    from evovlm.merging.gpu_build import why_not_on_gpu
    from evovlm.system.units import duration

    count = len(output_tensors(assembly))
    OUT.print(f"would write {count} tensors to {out} ({assembly.recipe.method}, {assembly.pinned.digest()})")
    if gpu is not None:
        reason = why_not_on_gpu(assembly)
        if reason is None:
            OUT.print(f"would be merged on {gpu}, to the same bits as on the CPU, about as fast as the disk allows")
            return
        OUT.print(f"would be merged on the CPU: {reason}")
    with waiting("merging a few tensors"):
        seconds = merging_seconds(assembly)
    OUT.print(f"merging takes about {duration(max(1.0, seconds))}, by a few tensors merged here")
