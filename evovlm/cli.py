"""The command line: parse arguments, pick implementations, turn errors into exit codes.

Exit codes: 0 done, 2 the user's mistake (told in a sentence), 130 interrupted. The one place that picks
implementations; heavy imports wait inside the commands so that --help is quick.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evovlm.errors import UserError

if TYPE_CHECKING:
    from evovlm.evolution import Plan

app = typer.Typer(
    help="Breed new models out of existing ones: merge recipes found by evolution, no training.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
zoo_app = typer.Typer(help="The small models that come with evovlm.", no_args_is_help=True)
recipe_app = typer.Typer(help="Check, show and convert recipes.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")
app.add_typer(recipe_app, name="recipe")

# What the disk may do to anybody: full, quota, read-only, forbidden, a path that leads nowhere.
DISK_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
)

GENES_SHOWN = 60

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe: our YAML, or mergekit's.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch hub models that are not in the local cache.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Device = Annotated[str, typer.Option(help="Where models run: cpu, cuda, cuda:1.")]


@zoo_app.command("list")
def zoo_list(as_json: AsJson = False) -> None:
    """List the zoo's models, their sizes and where they lie.

    Example: evovlm zoo list
    """
    from evovlm.console import OUT, size
    from evovlm.zoo.manifest import ZOO_MODELS, zoo_folder

    rows = {name: zoo_folder(name) for name in ZOO_MODELS}
    if as_json:
        print(json.dumps({name: str(folder) for name, folder in rows.items()}, indent=2))
        return
    for name, folder in rows.items():
        weight = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        OUT.print(f"zoo:{name:<8} {size(weight):>8}  {folder}")


@zoo_app.command("train")
def zoo_train(
    out: Annotated[Path, typer.Option(help="Folder for the trained models.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; found by itself otherwise.")] = None,
    scale: Annotated[float, typer.Option(min=0.0005, max=10.0, help="Share of the training steps.")] = 1.0,
    of_size: Annotated[str, typer.Option("--size", help="small, as it ships, or medium.")] = "small",
    processes: Annotated[int, typer.Option(min=1, help="Draw the data in so many processes; the same data.")] = 1,
) -> None:
    """Train the zoo from nothing, on data that it generates itself.

    Examples:
      evovlm zoo train --out my-zoo --seed 1 --device cuda --processes 6
      evovlm zoo train --out my-zoo --scale 0.01     (a minute on a CPU, to see it run)
      evovlm zoo train --out my-medium-zoo --size medium --device cuda
    """
    from evovlm.console import ERR
    from evovlm.zoo.train import train_zoo

    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: exists and is not empty; choose another folder with --out")
    train_zoo(out, size=of_size, seed=seed, device=device, scale=scale, processes=processes, report=ERR.print)


@recipe_app.command("check")
def recipe_check(recipe: RecipeArgument, download: Download = False, as_json: AsJson = False) -> None:
    """Say what fits and what does not, before any work: shapes, vocabularies, configs, disk, memory.

    Example: evovlm recipe check recipes/zoo-vlm.yaml
    """
    from evovlm.assembly import open_models
    from evovlm.check import check_recipe
    from evovlm.console import ERR, OUT, findings_table
    from evovlm.recipe_file import read_recipe

    loaded = read_recipe(recipe)
    base, sources = open_models(loaded, recipe.parent, download=download)
    findings = check_recipe(loaded, base, list(sources.values()))
    failed = any(finding.level == "error" for finding in findings)
    if as_json:
        print(json.dumps({"digest": loaded.digest(), "fits": not failed, "findings": [vars(f) for f in findings]}))
    else:
        OUT.print(f"{recipe}: {loaded.kind}, {loaded.method}, digest {loaded.digest()}")
        OUT.print(findings_table(findings))
        (ERR if failed else OUT).print("[red]does not fit[/red]" if failed else "[green]fits[/green]")
    if failed:
        raise typer.Exit(2)


@recipe_app.command("convert")
def recipe_convert(
    recipe: RecipeArgument,
    to: Annotated[str, typer.Option(help="mergekit or evovlm.")] = "mergekit",
) -> None:
    """Print a recipe as mergekit's YAML, or mergekit's as ours.

    Examples:
      evovlm recipe convert recipes/zoo-llm.yaml --to mergekit
      evovlm recipe convert their-merge.yml --to evovlm > ours.yaml
    """
    from evovlm.mergekit_yaml import write_mergekit
    from evovlm.recipe_file import read_recipe, recipe_text

    writers = {"mergekit": write_mergekit, "evovlm": recipe_text}
    if to not in writers:
        raise UserError(f"--to: unknown format {to!r}; choose from {sorted(writers)}")
    print(writers[to](read_recipe(recipe)), end="")


@app.command()
def merge(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Argument(help="The folder to write; must not exist.")],
    dry_run: DryRun = False,
    download: Download = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Tensors merged at a time, at most.")] = None,
    max_shard_gb: Annotated[float, typer.Option(min=0.0001, help="Largest shard, in GB.")] = 5.0,
) -> None:
    """Merge as a recipe says, into an ordinary Hugging Face checkpoint.

    Examples:
      evovlm merge recipes/zoo-vlm.yaml merged
      evovlm merge their-mergekit-recipe.yml merged --dry-run
    """
    from evovlm.assembly import assemble
    from evovlm.build import build_checkpoint, output_tensors
    from evovlm.console import ERR, OUT, bars, findings_table, size
    from evovlm.recipe_file import read_recipe

    assembly = assemble(read_recipe(recipe), recipe.parent, download=download, out=out)
    told = [finding for finding in assembly.findings if finding.level == "warning" or dry_run]
    if told:
        ERR.print(findings_table(told))
    if dry_run:
        count = len(output_tensors(assembly))
        OUT.print(f"would write {count} tensors to {out} ({assembly.recipe.method}, {assembly.recipe.digest()})")
        return
    with bars() as progress:
        task = progress.add_task("merge", total=None, figures="")

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, figures=f"{size(done)} of {size(total)}")

        report = build_checkpoint(
            assembly, out, progress=show, threads=threads, max_shard_bytes=int(max_shard_gb * 1e9)
        )
    OUT.print(f"{report.folder}: {report.tensors} tensors, {size(report.nbytes)}, recipe {assembly.recipe.digest()}")
    if report.folding is not None:
        OUT.print(report.folding)


@app.command()
def evolve(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="The study's folder; the same command resumes it.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Candidates in all.")] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Questions a candidate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the search.")] = None,
    judged: Annotated[int | None, typer.Option(min=2, help="Questions of the choice and of the final table.")] = None,
    device: Device = "cpu",
    checkpoint: Annotated[bool, typer.Option(help="Write the winner as a checkpoint into the study.")] = False,
    rivals: Annotated[
        bool, typer.Option(help="Also search at random, and with one weight a source: controls, thrice the work.")
    ] = False,
    race: Annotated[
        bool, typer.Option("--race", help="Drop candidates as soon as a test on few items says so.")
    ] = False,
    keep_diverse: Annotated[
        bool,
        typer.Option("--keep-diverse", help="Also keep the best merge of each skill profile: an atlas of recipes."),
    ] = False,
    ray: Annotated[str | None, typer.Option(help="Evaluate on a Ray cluster: auto, or its address.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --ray: workers; one a GPU or core otherwise.")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(min=0.1, help="With --ray: seconds a candidate may take.")] = None,
    sources_in: Annotated[
        str, typer.Option(help="On a GPU, where sources are kept: auto, gpu, host (pinned, streamed) or disk (mapped).")
    ] = "auto",
    eight_bit: Annotated[
        bool, typer.Option(help="On a GPU, keep task vectors in 8 bits; what that loses is told.")
    ] = False,
    profile: Annotated[
        bool, typer.Option(help="Tell seconds by phase a candidate, beside what the machine's rates allow.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    download: Download = False,
) -> None:
    """Search a recipe's parameters, choose the winner on fresh items, judge it on held-out ones.

    Killed at any moment and started again with the same command, it goes on where it was.

    Examples:
      evovlm evolve recipes/zoo-vlm.yaml --out runs/vlm --trials 100
      evovlm evolve recipes/zoo-llm.yaml --out runs/llm --checkpoint
      evovlm evolve recipes/zoo-llm.yaml --out runs/llm --rivals     (what random search finds in as many trials)
      evovlm evolve recipes/zoo-ps-dfs.yaml --out runs/both     (weights first, then routes)
      evovlm evolve recipes/evovlm-jp.yaml --out runs/jp --device cuda --download --dry-run
      evovlm evolve recipes/zoo-llm.yaml --out runs/many --ray auto --workers 2
      evovlm evolve recipes/zoo-llm.yaml --out runs/fast --race --trials 300
      evovlm evolve recipes/zoo-vlm.yaml --out runs/atlas --keep-diverse     (who is best at what)
    """
    from evovlm.console import OUT, BarWatch, JsonWatch, bars
    from evovlm.evolution import EvolveSettings
    from evovlm.mergers import Keeping, refuse_cpu
    from evovlm.race import RaceSettings
    from evovlm.recipe_file import read_recipe
    from evovlm.report import write_report
    from evovlm.searching import Workers
    from evovlm.stages import evolve_stages, plan_first

    if ray is None and (workers is not None or time_limit is not None):
        raise UserError("--workers and --time-limit belong to --ray; add `--ray auto`")
    pool = Workers(ray, workers, time_limit) if ray is not None else None
    racing = RaceSettings() if race else None
    keeping = Keeping(sources_in, eight_bit)
    refuse_cpu(keeping, device)
    settings = EvolveSettings(
        trials,
        items,
        seed,
        judged,
        device,
        checkpoint,
        download,
        rivals,
        pool,
        racing,
        keep_diverse,
        keeping=keeping,
        profile=profile,
    )
    loaded = read_recipe(recipe)
    if dry_run:
        _print_plan(plan_first(loaded, recipe.parent, settings))
        if loaded.then is not None:
            search = loaded.then.search
            OUT.print(
                f"then routes among the sources and the {loaded.then.winners} best with {search.algorithm}:"
                f" {trials or search.trials} trials"
            )
        return
    if as_json:
        result = evolve_stages(loaded, recipe.parent, settings, out, JsonWatch())
    else:
        with bars() as progress:
            result = evolve_stages(loaded, recipe.parent, settings, out, BarWatch(progress))
    report = write_report(out)
    if as_json:
        print(json.dumps({"result": result, "report": str(report)}, ensure_ascii=False))
    else:
        _print_result(out, result, report)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint folder, zoo:NAME or a hub id.")],
    data: Annotated[str, typer.Option(help="TASK:SPLIT, or TASK@PATH:SPLIT with the data in a file or folder.")],
    items: Annotated[int, typer.Option(min=1, help="How many items.")] = 500,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    batch: Annotated[int, typer.Option(min=1)] = 128,
    preset: Annotated[str | None, typer.Option(help="How the task asks and scores; its default if left out.")] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
    download: Download = False,
) -> None:
    """Score one model on one task.

    Examples:
      evovlm evaluate zoo:vlm --data zoo-vqa:test
      evovlm evaluate runs/demo/checkpoint --data zoo-vqa:test --items 500 --json
      evovlm evaluate zoo:ja --data custom-maths@my-problems.jsonl:test --preset plain
    """
    from evovlm.console import OUT
    from evovlm.heldout import evaluate_model
    from evovlm.tasks import Options, parse_split
    from evovlm.version import hardware, versions

    interval, evaluation = evaluate_model(
        model, data, items, seed=seed, batch=batch, device=device, download=download, preset=preset
    )
    task, _ = parse_split(data, Options(preset=preset))
    row = {
        "model": model,
        "data": data,
        "items": len(evaluation.scores),
        "seed": seed,
        "score": evaluation.score,
        "ci95": [interval.low, interval.high],
        "exact": evaluation.exact_share,
        "rules": dict(task.rules),
        "generation": vars(task.generation),
        "versions": versions(),
        "hardware": hardware(device),
    }
    if as_json:
        print(json.dumps(row, ensure_ascii=False))
        return
    OUT.print(
        f"{model} on {data}: [bold]{evaluation.score:.2f}[/bold] (95 % {interval.low:.2f} to {interval.high:.2f}),"
        f" exact {evaluation.exact_share:.1%}, {len(evaluation.scores)} items, seed {seed}"
    )


@app.command()
def suggest(
    models: Annotated[list[str], typer.Argument(help="Models of one family, or one folder that holds them.")],
    base: Annotated[str, typer.Option(help="The model that all were tuned from.")],
    data: Annotated[str, typer.Option(help="Task and split, such as zoo-maths:search.")],
    items: Annotated[int, typer.Option(min=2, help="Items a one-shot merge is asked.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "cpu",
    picture: Annotated[Path | None, typer.Option(help="Write an SVG: likeness of task vectors by layer.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank candidate sources for a task by what is cheap, and say why.

    Examples:
      evovlm suggest zoo:ja zoo:math zoo:math2 --base zoo:base --data zoo-maths:search
      evovlm suggest my-models --base my-base --data zoo-maths:search --picture kin.svg
    """
    from evovlm.console import OUT, bars, suggestions_table
    from evovlm.kinship import draw_kinship
    from evovlm.suggest import suggest as advise

    if len(models) == 1 and Path(models[0]).is_dir():
        models = sorted(str(path.parent) for path in Path(models[0]).glob("*/config.json"))
    with bars() as progress:
        task = progress.add_task("suggest", total=None, figures="")

        def step(text: str) -> None:
            progress.update(task, advance=1, figures=text)

        advice = advise(base, models, data, items=items, seed=seed, root=Path(), device=device, step=step)
    if picture is not None:
        picture.write_text(draw_kinship(advice.kinship), encoding="utf-8")
    if as_json:
        ranking = [vars(one) for one in advice.ranking]
        print(json.dumps({"base": advice.base_score, "ranking": ranking, "answers": advice.answers}))
        return
    OUT.print(suggestions_table(advice))


@app.command()
def report(study: Annotated[Path, typer.Argument(help="A study's folder.")]) -> None:
    """Write one self-contained HTML page about a study.

    Example: evovlm report runs/demo
    """
    from evovlm.report import write_report

    print(write_report(study))


@app.command()
def export(
    study: Annotated[Path, typer.Argument(help="A study's folder.")],
    storage: Annotated[str, typer.Option(help="An Optuna storage, such as sqlite:///optuna.db.")],
    name: Annotated[str | None, typer.Option(help="The Optuna study's name; the folder's otherwise.")] = None,
) -> None:
    """Write a study's log into an Optuna storage, for optuna-dashboard. Needs the extra evovlm[optuna].

    Example: evovlm export runs/demo --storage sqlite:///optuna.db
    """
    from evovlm.optuna_export import export_optuna

    count = export_optuna(study, storage, name or study.resolve().name)
    print(f"{storage}: {count} trials")


@app.command(
    "app",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def open_app(context: typer.Context) -> None:
    """Open the app on the zoo, at http://127.0.0.1:7860.

    Example: evovlm app --port 7861
    """
    # In this process's place, so that a signal to stop reaches the server and none is left behind.
    os.execv(sys.executable, [sys.executable, "-m", "app", *context.args])


@app.command(
    "bench",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def open_bench(context: typer.Context) -> None:
    """Benchmark models on tasks, compare results, score answers made elsewhere.

    Example: evovlm bench run zoo
    """
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *context.args])


def _print_plan(plan: Plan) -> None:
    from evovlm.console import OUT, findings_table

    OUT.print(findings_table(plan.assembly.findings))
    OUT.print(
        f"would search {len(plan.genes)} genes with {plan.recipe.search.algorithm if plan.recipe.search else ''}:"
        f" {plan.trials} trials of {len(plan.search_items)} {plan.task.name} items on {plan.settings.device}"
    )
    if plan.sets.left_out:
        OUT.print(f"left out: {plan.sets.left_out} search items that look like items which judge them")
    shown = [gene.name for gene in plan.genes[:GENES_SHOWN]]
    left = len(plan.genes) - len(shown)
    OUT.print("genes: " + ", ".join(shown) + (f" and {left} more" if left else ""))


def _print_result(out: Path, result: dict[str, Any], page: Path) -> None:
    from evovlm import study_log
    from evovlm.console import OUT, answers_table, held_out_table, profile_table, told_luck

    OUT.print(held_out_table(result))
    rows = list(study_log.read_rows(out / study_log.HELD_OUT_ANSWERS))
    OUT.print(answers_table(rows, [*result["held_out"]["sources"], "evolved"]))
    chosen = result["selection"]
    OUT.print(
        f"Winner: trial {chosen['trial']}, {chosen['search_score']:.2f} on the search items,"
        f" {chosen['choice_score']:.2f} on fresh ones: {told_luck(chosen['luck'])}."
    )
    if "profile" in result:
        OUT.print(profile_table(result["profile"]))
    if "front" in result:
        OUT.print(f"front       {len(result['front']['points'])} recipes in {out / study_log.FRONT}")
    if (out / study_log.ATLAS).exists():
        atlas = study_log.read_json(out / study_log.ATLAS)
        skills = " and ".join(atlas["axes"])
        OUT.print(f"atlas       {len(atlas['cells'])} recipes by {skills} in {out / study_log.ATLAS_RECIPES}")
    OUT.print(f"report      {page}")
    OUT.print(f"plot        {page.with_name('scores.svg')}")
    OUT.print(f"recipe      {out / study_log.BEST}")
    if "checkpoint" in result:
        OUT.print(f"checkpoint  {result['checkpoint']}")


def main() -> None:
    """Run the command line; a user's mistake is a sentence and exit code 2, never a traceback."""
    from rich.console import Console
    from rich.text import Text

    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Before torch loads: threads that spin while they wait take ten times as long where other work shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except UserError as error:
        errors.print(Text.assemble(("error: ", "red"), str(error)))
        sys.exit(2)
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        errors.print(Text.assemble(("error: ", "red"), f"{error.filename or 'disk'}: {error.strerror}"))
        sys.exit(2)
    except (FloatingPointError, MemoryError) as error:
        errors.print(Text.assemble(("error: ", "red"), str(error) or "not enough memory; lower --batch or --items"))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        if stop.code == 130:
            errors.print("interrupted; nothing half-written is left, the same command goes on", style="yellow")
        raise


if __name__ == "__main__":
    main()
