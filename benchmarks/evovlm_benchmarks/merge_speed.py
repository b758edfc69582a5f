"""Time and memory of one merge: evovlm against mergekit, with the same recipe file and checkpoints, in one run.

    python -m evovlm_benchmarks.merge_speed --mergekit PATH/bin/mergekit-yaml --json speed.json
    python -m evovlm_benchmarks.merge_speed --scale small          # a smoke test, seconds

Creates random bf16 checkpoints in Mistral's layout, then runs each tool in its own process, in alternating order, and
polls the anonymous memory of the process and its children. Without mergekit, only evovlm and the copy floor are
measured. Knows the two command lines; imports neither tool's merging code.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

from evovlm.cli.entry import run_command
from evovlm.cli.limits import fraction
from evovlm.models.checkpoint_writer import CheckpointWriter, TensorInfo
from evovlm.system.errors import UserError
from evovlm.system.version import hardware, versions
from evovlm_benchmarks.mergekit_program import mergekit_program

POLL_SECONDS = 0.02
BLOCK = 2**24
SAID = 300  # characters of a failed program's last line
POOL = 2**22
ANONYMOUS = ("RssAnon", "RssShmem", "Pss_Anon", "Pss_Shmem")
OUT = Console(highlight=False, markup=False, emoji=False)


@dataclass(frozen=True)
class Scale:
    """The size of a Mistral model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor."""
        narrow = self.hidden // self.heads * self.key_value_heads
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            start = f"model.layers.{layer}"
            yield f"{start}.input_layernorm.weight", (self.hidden,)
            for part, rows in (("q", self.hidden), ("k", narrow), ("v", narrow), ("o", self.hidden)):
                yield f"{start}.self_attn.{part}_proj.weight", (rows, self.hidden)
            yield f"{start}.post_attention_layernorm.weight", (self.hidden,)
            for part in ("gate", "up"):
                yield f"{start}.mlp.{part}_proj.weight", (self.intermediate, self.hidden)
            yield f"{start}.mlp.down_proj.weight", (self.hidden, self.intermediate)
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (self.vocabulary, self.hidden)

    def config(self) -> dict[str, Any]:
        """The checkpoint's config.json."""
        return {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "vocab_size": self.vocabulary,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "sliding_window": None,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        }


SCALES = {
    "small": Scale(256, 896, 4, 8, 2, 2000),
    "0.5b": Scale(1024, 3584, 32, 16, 4, 32000),
    "1b": Scale(2048, 5632, 22, 32, 8, 32000),
    "7b": Scale(4096, 14336, 32, 32, 8, 32000),
    "13b": Scale(5120, 13824, 40, 40, 40, 32000),
}


@dataclass(frozen=True)
class Run:
    """One merge by one tool: peak memory in bytes, of the process and its children. `anonymous`: not backed by a file.

    Polling memory takes time itself, so a run is either timed (bytes are 0) or watched (`seconds` is None).
    """

    tool: str
    seconds: float | None
    anonymous: int = 0
    resident: int = 0


def make_checkpoints(folder: Path, scale: Scale, sources: int) -> dict[str, Path]:
    """Write a base and sources that differ from it by a little noise; one tensor at a time, so that any size fits.

    Returns the folders by model name.
    """
    names = ["base", *(f"source{number}" for number in range(1, sources + 1))]
    infos = [TensorInfo(name, shape, torch.bfloat16) for name, shape in scale.tensors()]
    # Random values are drawn once and reused: the merge does not care, and drawing billions takes long.
    common, own = (torch.randn(POOL, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for number, model in enumerate(names):
        with CheckpointWriter(folder / model, infos) as writer:
            for index, info in enumerate(infos):
                tensor = 0.02 * _drawn(common, index, info.shape)
                if number:
                    tensor += 0.002 * _drawn(own, number * len(infos) + index, info.shape)
                writer.write(info.name, tensor.to(torch.bfloat16))
            (writer.folder / "config.json").write_text(json.dumps(scale.config(), indent=2), encoding="utf-8")
    return {name: folder / name for name in names}


def _drawn(pool: torch.Tensor, place: int, shape: tuple[int, ...]) -> torch.Tensor:
    count = torch.Size(shape).numel()
    start = place * 7919 % len(pool)
    return pool.repeat(-(-(start + count) // len(pool)))[start : start + count].reshape(shape)


def write_recipe(path: Path, models: dict[str, Path], method: str, density: float) -> Path:
    """Write one recipe in mergekit's YAML, which both tools read."""
    lines = [f"merge_method: {method}", f"base_model: {models['base']}", "models:"]
    for name, folder in models.items():
        if name != "base":
            lines += [f"  - model: {folder}", f"    parameters: {{weight: 0.5, density: {density}}}"]
    path.write_text("\n".join([*lines, "dtype: bfloat16", ""]), encoding="utf-8")
    return path


def commands(recipe: Path, mergekit: Path | None) -> dict[str, list[str]]:
    """The command line of each tool, without the output folder at the end."""
    found = {"evovlm": [sys.executable, "-P", "-m", "evovlm", "merge", str(recipe)]}
    if mergekit is not None:
        found["mergekit"] = [str(mergekit), str(recipe)]
    return found


MERGEKIT_OPTIONS = ["--no-copy-tokenizer", "--allow-crimes", "--random-seed", "42"]


def measure(tool: str, command: list[str], out: Path, *, watched: bool) -> Run:
    """Run a merge into a fresh folder, timed or watched. Raises UserError if it cannot be started or fails."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()  # so that an earlier run's pending writes are not charged to this one
    extra = MERGEKIT_OPTIONS if tool == "mergekit" else []
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        try:
            child = psutil.Popen([*command, str(out), *extra], stdout=said, stderr=said, env=_environment())
        except OSError as error:
            raise UserError(f"{command[0]}: cannot be started ({error.strerror}); give another --mergekit") from None
        anonymous = resident = 0
        while child.poll() is None:
            if watched:
                now = _memory(child)
                anonymous, resident = max(anonymous, now[0]), max(resident, now[1])
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        if child.returncode:
            said.seek(0)
            text = said.read()
            OUT.print(text[-3000:])
            raise UserError(f"{tool} failed with exit code {child.returncode}: {last_line(text) or 'no output'}")
    return Run(tool, None if watched else seconds, anonymous, resident)


def last_line(text: str) -> str:
    """The last line of a program's output that is not empty, at most SAID characters of it; empty if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:SAID] if lines else ""


def copy_floor(models: dict[str, Path], out: Path) -> float:
    """Seconds to read all input bytes and write as many as the output has: a lower bound for any merge."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()
    block = memoryview(bytearray(BLOCK))
    started = time.perf_counter()
    for name, folder in models.items():
        for path in sorted(folder.glob("*.safetensors")):
            with path.open("rb", buffering=0) as source, (out / path.name).open("ab", buffering=0) as target:
                while count := source.readinto(block):
                    if name == "base":
                        target.write(block[:count])
    return time.perf_counter() - started


def same_tensors(one: Path, other: Path) -> bool:
    """Whether two checkpoints have the same names, shapes and dtypes, so that both tools did the same work."""
    return _layout(one) == _layout(other)


def _layout(folder: Path) -> dict[str, tuple[list[int], str]]:
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                part = file.get_slice(name)
                found[name] = (part.get_shape(), part.get_dtype())
    return found


def _memory(process: psutil.Process) -> tuple[int, int]:
    """(anonymous, resident) bytes of a process and its children; a process that has just ended counts as 0.

    A page that a forked child shares with its parent is counted once, by the kernel's proportional set size.
    """
    anonymous = resident = 0
    try:
        children = process.children(recursive=True)
        for one in (process, *children):
            fields = _fields(one.pid, "smaps_rollup" if children else "status")
            anonymous += sum(fields.get(name, 0) for name in ANONYMOUS)
            resident += fields.get("Pss", fields.get("VmRSS", 0))
    except (psutil.Error, OSError):
        pass
    return anonymous, resident


def _fields(pid: int, account: str) -> dict[str, int]:
    """A process's memory from /proc, in bytes by field. `status` is cheap; `smaps_rollup` walks page tables."""
    lines = Path(f"/proc/{pid}/{account}").read_text(encoding="ascii", errors="replace").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


def _environment() -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TERM": "dumb"}


def _version_of(mergekit: Path) -> str:
    code = "import importlib.metadata as m; print(m.version('mergekit'), 'with torch', m.version('torch'))"
    command = [str(mergekit.parent / "python"), "-I", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # a script that lies elsewhere
        return "unknown"
    return done.stdout.strip() or "unknown"


def _table(runs: list[Run], floor: float, title: str) -> Table:
    table = Table(title=title)
    for name in ("", "median s", "runs", "anon. peak", "RSS peak", "x time", "x memory"):
        table.add_column(name, justify="left" if not name else "right")
    ours = _summary(runs, "evovlm")
    for tool in dict.fromkeys(run.tool for run in runs):
        own = _summary(runs, tool)
        spread = " ".join(f"{run.seconds:.1f}" for run in runs if run.tool == tool and run.seconds is not None)
        table.add_row(
            tool,
            f"{own['seconds']:.1f}",
            spread,
            f"{own['anonymous'] / 1e9:.2f} GB",
            f"{own['resident'] / 1e9:.2f} GB",
            f"{own['seconds'] / ours['seconds']:.2f}",
            f"{own['anonymous'] / ours['anonymous']:.2f}",
        )
    table.add_row("copying the bytes", f"{floor:.1f}", "", "", "", f"{floor / ours['seconds']:.2f}", "")
    return table


def _summary(runs: list[Run], tool: str) -> dict[str, float]:
    """Median seconds, and the highest peaks."""
    own = [run for run in runs if run.tool == tool]
    return {
        "seconds": statistics.median(run.seconds for run in own if run.seconds is not None),
        "anonymous": max(run.anonymous for run in own),
        "resident": max(run.resident for run in own),
    }


def main(
    mergekit: Annotated[Path | None, typer.Option(help="Path of mergekit-yaml, in mergekit's own environment.")] = None,
    scale: Annotated[str, typer.Option(help=f"Model size, one of {', '.join(SCALES)}.")] = "0.5b",
    sources: Annotated[int, typer.Option(min=1, max=8)] = 2,
    method: Annotated[str, typer.Option(help="A method that both tools have.")] = "dare_ties",
    density: Annotated[float, typer.Option(**fraction(0.0, 1.0))] = 0.5,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each tool; the order alternates.")] = 3,
    work: Annotated[Path | None, typer.Option(help="Folder for the checkpoints; default: a temporary one.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure one merge with evovlm and, if given, with mergekit."""
    if scale not in SCALES:
        raise typer.BadParameter(f"--scale: choose from {', '.join(SCALES)}")
    mergekit = mergekit_program(mergekit)
    with tempfile.TemporaryDirectory(prefix="merge-speed-", dir=work) as name:
        folder = Path(name)
        models = make_checkpoints(folder, SCALES[scale], sources)
        tools = commands(write_recipe(folder / "merge.yml", models, method, density), mergekit)
        runs = []
        for number in range(rounds):
            order = list(tools) if number % 2 == 0 else list(reversed(tools))
            runs += [measure(tool, tools[tool], folder / f"out-{tool}", watched=False) for tool in order]
        runs += [measure(tool, tools[tool], folder / f"out-{tool}", watched=True) for tool in tools]
        if mergekit is not None and not same_tensors(folder / "out-evovlm", folder / "out-mergekit"):
            OUT.print("the outputs differ in tensors, shapes or dtypes, so the comparison is invalid", style="red")
            raise typer.Exit(1)
        floor = copy_floor(models, folder / "out-copy")
    count = sum(torch.Size(shape).numel() for _, shape in SCALES[scale].tensors())
    title = f"{method} of {sources} sources and a base, {count / 1e6:,.0f} M parameters each, bfloat16, {rounds} rounds"
    OUT.print(_table(runs, floor, title))
    told = {"hardware": hardware(), "versions": versions(), "mergekit": _version_of(mergekit) if mergekit else None}
    OUT.print(f"{told['hardware']}; torch {versions()['torch']}; mergekit {told['mergekit'] or 'not given'}")
    if as_json is not None:
        content = {"merge": title, **told, "runs": [asdict(run) for run in runs], "copy_seconds": floor}
        as_json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
