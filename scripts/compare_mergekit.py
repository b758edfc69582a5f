"""Writes what mergekit makes of the pairs of docs/families.md, with mergekit in an environment of its own.

    .venv/bin/python scripts/compare_mergekit.py [FOLDER]

Run it from the repository's root. Every pair is a cut-down vision-language model, the text model that its tower comes
from, and a tune of that. FOLDER gets the environment, the models and every run's output (default: a temporary folder);
what is there already is not made again. mergekit is run as a user would run it: `mergekit-yaml`, first without options,
then with `--allow-crimes`. One process imports it and forks for each run, and the hub is not asked.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from evovlm.models.families import FAMILIES as FAMILY_ROWS  # noqa: E402
from evovlm.models.families import family_of  # noqa: E402
from evovlm.models.loading import load_reporting  # noqa: E402
from tests.merging.test_vlm_families import canonical, save_text  # noqa: E402
from tests.vlm_families import FAMILIES, PROPER, UNASKED, save_family  # noqa: E402

PAGE = ROOT / "docs" / "families.md"
BEGIN, END = "<!-- mergekit: scripts/compare_mergekit.py -->\n", "<!-- end of mergekit -->\n"
MERGEKIT = "0.1.5"
CRIMES = "--allow-crimes"
RAISED = re.compile(r"[\w.]*(Error|Exception)\b")
MOST_SAID = 200  # characters of an error
# What the environment's Python runs: a line of JSON in, an exit code out.
FORKS = """
import importlib, json, os, sys
import mergekit.scripts.run_yaml, mergekit.merge, mergekit.tokenizer, transformers
for name in sys.argv[1].split(","):
    importlib.import_module(f"transformers.models.{name}.modeling_{name}")
for line in sys.stdin:
    folder, log, words = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1), os.dup2(sink, 2)
        sys.argv = ["mergekit-yaml", *words]
        sys.exit(mergekit.scripts.run_yaml.main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# The families of the models here, by their modules in transformers: what each run would import.
KINDS = {kind for family in FAMILY_ROWS for kind in family.types} | {"mistral", "llama", "qwen2", "qwen3", "gemma2"}
KINDS |= {"cohere2", "clip", "siglip"}
SHARES = {"vlm": 0.6, "ja": 0.4}  # of a linear merge
# What a user would write: the mean of both on the VLM, and the tune's step from their ancestor added to the VLM. Two
# VLMs of one family are merged as well, to see that mergekit works here.
CONFIGS: dict[str, dict[str, Any]] = {
    "on the VLM": {
        "merge_method": "linear",
        "base_model": "./vlm",
        "models": [{"model": f"./{name}", "parameters": {"weight": share}} for name, share in SHARES.items()],
        "parameters": {"normalize": True},
        "dtype": "float32",
    },
    "on the text model": {
        "merge_method": "task_arithmetic",
        "base_model": "./base",
        "models": [{"model": f"./{name}", "parameters": {"weight": 1.0}} for name in SHARES],
        "dtype": "float32",
    },
    "two VLMs": {
        "merge_method": "linear",
        "models": [{"model": f"./{name}", "parameters": {"weight": 0.5}} for name in ("vlm", "vlm2")],
        "dtype": "float32",
    },
}


@dataclass(frozen=True)
class Outcome:
    """One run: its exit code, and what it wrote or the last line of its error."""

    code: int
    said: str
    cell: str


class Mergekit:
    """`mergekit-yaml` in an environment of its own, with torch and transformers as they are here."""

    def __init__(self, folder: Path) -> None:
        python = folder / "venv" / "bin" / "python"
        if not (folder / "venv" / "bin" / "mergekit-yaml").exists():
            venv.create(folder / "venv", with_pip=True)
            wanted = [f"mergekit=={MERGEKIT}", *(f"{name}=={version(name)}" for name in ("transformers", "pillow"))]
            wanted += [f"torch=={version('torch').partition('+')[0]}", "numpy"]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [python, "-c", FORKS, ",".join(sorted(KINDS))],
            env=environment | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, folder: Path, log: Path, *words: str) -> int:
        """Run it in a folder; its exit code. What it prints goes to `log`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(folder), str(log), words]), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def save_pair(name: str, folder: Path) -> None:
    """A family's models: vlm and vlm2, and base and ja, which fit the tower."""
    for seed, model in enumerate(("vlm", "vlm2")):
        made = save_family(name, folder / model, seed)
    tokenizer = getattr(made.processor, "tokenizer", made.processor)
    for seed, source in enumerate(("ja", "base")):
        save_text(folder / source, made.model.config.text_config, made.tower, seed, tokenizer)


def run(mergekit: Mergekit, folder: Path, config: str, *, crimes: bool) -> Outcome:
    """Merge a family's models with one configuration."""
    name = config.replace(" ", "-") + ("-crimes" if crimes else "")
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(CONFIGS[config], sort_keys=False), encoding="utf-8")
    log, known = folder / f"{name}.log", folder / f"{name}.code"
    if not known.exists():
        code = mergekit(folder, log, f"{name}.yaml", f"out-{name}", *([CRIMES] if crimes else []))
        known.write_text(str(code), encoding="utf-8")
    if code := int(known.read_text(encoding="utf-8")):
        return Outcome(code, _error(log.read_text(encoding="utf-8")).replace(f"{folder}/", ""), "error")
    return Outcome(0, "", written(folder, folder / f"out-{name}", config))


def _error(said: str) -> str:
    """The message of the exception that ended a run, in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    first = max((number for number, line in enumerate(lines) if RAISED.match(line)), default=len(lines) - 1)
    text = re.sub(r"\{.*\}", "{…}", " ".join(" ".join(lines[first:]).split()))  # a whole configuration
    return text if len(text) <= MOST_SAID else text[:MOST_SAID] + "…"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys()}
    return found


def written(folder: Path, out: Path, config: str) -> str:
    """What a run wrote, beside the VLM: how many of its tensors, its vision, whether it loads and is right."""
    made, text = tensors(out), tensors(folder / "ja")
    if not made:
        return "nothing written, exit code 0"
    between = getattr(AutoConfig.from_pretrained(folder / "vlm").get_text_config(), "cross_attention_layers", ())
    vlm = max(_layouts(folder / "vlm"), key=lambda names: len(names.keys() & made.keys()))
    towers = {key: canonical(key, between) for key in vlm}
    there = {key for key in vlm if key in made or towers[key] in made}
    seeing = {key for key in vlm if towers[key] not in text}
    here = len(seeing & there)
    parts = [f"{len(there)} of {len(vlm)} tensors"]
    parts.append(
        "vision whole" if here == len(seeing) else f"{here} of {len(seeing)} of vision" if here else "no vision"
    )
    parts.append(_loads(out))
    if config != "two VLMs":
        tower = {key: (made.get(key, made.get(towers[key])), vlm[key], towers[key]) for key in there - seeing}
        few = len(tower) < len(vlm.keys() - seeing)
        parts.append("tower incomplete" if few else _tower(folder, tower))
    return ", ".join(parts)


def _layouts(folder: Path) -> Iterator[dict[str, torch.Tensor]]:
    """A VLM's tensors, named as on disk and as in memory; mergekit may write either. Tied ones count once."""
    yield tensors(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    yield {name: weight.detach() for name, weight in model.named_parameters()} | dict(model.named_buffers())


def _loads(out: Path) -> str:
    """Whether transformers loads all of it as the class that its configuration names."""
    try:
        sees = family_of(AutoConfig.from_pretrained(out).to_dict()).name != "other"
        kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        _, report = load_reporting(kind, out)
    except Exception as error:  # whatever transformers raises
        return f"does not load ({type(error).__name__})"
    lacks = len(report.missing) + len(report.mismatched)
    return f"{lacks} weights missing on loading" if lacks else ("loads" if sees else "loads as a text model")


def _tower(folder: Path, tower: dict[str, tuple[Any, torch.Tensor, str]]) -> str:
    """Where the tower's tensors come from: the sum that a configuration asks for, or one of the models alone."""
    ja, base = tensors(folder / "ja"), tensors(folder / "base")
    counts: Counter[str] = Counter()
    for whole in tower.values():
        name = whole[2]
        rows = min(len(one) for one in (*whole[:2], ja[name], base[name]))  # an embedding may have rows of its own
        made, own, tuned, from_ = (one[:rows] for one in (*whole[:2], ja[name], base[name]))
        sums = {
            "merged": [SHARES["vlm"] * own + SHARES["ja"] * tuned, own + tuned - from_],
            "the VLM's": [own],
            "the text model's": [tuned],
        }
        near = (word for word, likely in sums.items() if any(torch.allclose(made, one, atol=1e-5) for one in likely))
        counts[next(near, "other numbers")] += 1
    return "tower: " + ", ".join(f"{count} {word}" for word, count in counts.most_common())


def table(rows: dict[str, list[Outcome | None]]) -> str:
    """The table in Markdown, with the errors below it."""
    heads = [*(f"{config}{more}" for config in list(CONFIGS)[:2] for more in ("", f", `{CRIMES}`")), "two VLMs"]
    lines = ["| family | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    errors: list[str] = []
    for family, outcomes in rows.items():
        cells = []
        for outcome in outcomes:
            if outcome is None:
                cells.append("")
            elif outcome.code:
                said = re.sub(r"0x[0-9a-f]+", "0x…", outcome.said)
                errors += [said] if said not in errors else []
                cells.append(f"error {errors.index(said) + 1}")
            else:
                cells.append(outcome.cell)
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    noted = [f"{number}. `{said}`" for number, said in enumerate(errors, 1)]
    return "\n".join([*lines, "", "The errors' last lines:", "", *noted]) + "\n"


def compare(folder: Path) -> str:
    """Run every pair; the section's text."""
    mergekit = Mergekit(folder)
    rows: dict[str, list[Outcome | None]] = {}
    for name in FAMILIES | UNASKED:
        place = folder / name
        if not (place / "base").exists():
            save_pair(name, place)
        row: list[Outcome | None] = []
        for config in list(CONFIGS)[:2]:
            plain = run(mergekit, place, config, crimes=False)
            row += [plain, run(mergekit, place, config, crimes=True) if plain.code else None]
        rows[PROPER[name]] = [*row, run(mergekit, place, "two VLMs", crimes=False)]
        print(name, *(made and (made.said or made.cell) for made in rows[PROPER[name]]), sep="\n  ", flush=True)
    seen = f"mergekit {MERGEKIT}, torch {torch.__version__}, transformers {transformers.__version__}, "
    return seen + f"Python {platform.python_version()}, {datetime.date.today():%Y-%m-%d}.\n\n" + table(rows)


def with_section(page: str, content: str) -> str:
    """A page with other content between the marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + content + END + rest.split(END)[1]


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(description="Write what mergekit makes of the pairs of docs/families.md.")
    parser.add_argument("folder", nargs="?", type=Path, help="what is there already is not made again")
    return parser.parse_args(words)


if __name__ == "__main__":
    given = arguments(sys.argv[1:]).folder
    with tempfile.TemporaryDirectory() as scratch:
        made = compare(given.resolve() if given is not None else Path(scratch))
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
