"""The command line as people meet it: help, mistakes, exit codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import evovlm
from evovlm.methods import METHODS
from evovlm.models.zoo_models import FOLDER
from evovlm.system.version import commit
from tests.command import Done, evovlm_here

RECIPES = Path(__file__).parent.parent.parent / "recipes"
COMMANDS = [
    [],
    ["zoo"],
    ["zoo", "list"],
    ["zoo", "train"],
    ["recipe", "list"],
    ["recipe", "show"],
    ["recipe", "check"],
    ["recipe", "convert"],
    ["methods"],
    ["merge"],
    ["convert"],
    ["doctor"],
    ["evolve"],
    ["evaluate"],
    ["report"],
]


def run(*words: str, cwd: Path = Path()) -> Done:
    return evovlm_here(*words, folder=cwd)


def process(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """As a person starts it."""
    command = [sys.executable, "-P", "-m", "evovlm", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=cwd)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no line and shows no colour."""
    for name, value in {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_explains_and_gives_an_example(words: list[str]):
    done = run(*words, "--help")
    assert done.returncode == 0
    if words not in ([], ["zoo"]):  # groups of commands
        assert "Example" in done.stdout


def assert_told(done: Done | subprocess.CompletedProcess[str], *parts: str) -> None:
    """A sentence on standard error, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


def test_an_extra_is_named_in_the_help():
    assert "extra `optuna`" in run("export", "--help").stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "words",
    [
        ("evolve", str(RECIPES / "zoo-llm.yaml"), "--out", "study"),
        ("evaluate", "zoo:ja", "--data", "zoo-maths:test", "--items", "2"),
        ("zoo", "train", "--out", "zoo"),
        ("bench", "speed", "merge"),
    ],
    ids=lambda words: words[0],
)
def test_a_gpu_that_is_not_there_is_told(words: tuple[str, ...], tmp_path: Path):
    assert_told(run(*words, "--device", "cuda", cwd=tmp_path), "error: --device cuda", "use cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_what_is_no_device_is_told(more: tuple[str, ...], tmp_path: Path):
    words = ("evolve", str(RECIPES / "zoo-llm.yaml"), "--out", "study", "--device", "gpu", *more)
    assert_told(run(*words, cwd=tmp_path), "error: --device gpu: unknown device name; use cpu, cuda")
    assert not list(tmp_path.iterdir())


def test_the_methods_are_listed_and_described_with_their_options(tmp_path: Path):
    listed = run("methods", cwd=tmp_path).stdout
    assert all(name in listed for name in METHODS)
    rows = {row["name"]: row for row in json.loads(run("methods", "--json", cwd=tmp_path).stdout)}
    assert set(rows) == set(METHODS)
    assert rows["slerp"]["sources"] == {"fewest": 2, "most": 2}
    one = run("methods", "della", cwd=tmp_path).stdout
    for part in ("a base, at least one source", "options.epsilon", "default 0.15", "`per_element`", "arXiv:2406.11617"):
        assert part in one
    assert json.loads(run("methods", "della", "--json", cwd=tmp_path).stdout) == rows["della"]
    assert_told(run("methods", "dela", cwd=tmp_path), "error: method: unknown method 'dela'", "'della'")


def test_data_without_a_split_is_told(tmp_path: Path):
    assert_told(run("evaluate", "zoo:ja", "--data", "zoo-maths", cwd=tmp_path), "needs a split", "zoo-maths:test")


def test_an_unknown_option_is_told(tmp_path: Path):
    assert_told(run("merge", "x.yaml", "out", "--wieght", "1"), "--wieght")


def test_a_recipe_that_is_not_there_is_told(tmp_path: Path):
    assert_told(process("merge", str(tmp_path / "x.yaml"), str(tmp_path / "out")), "no such recipe file")


def test_a_typing_error_in_a_recipe_is_told_with_its_line(tmp_path: Path):
    text = (RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8").replace("method:", "methd:")
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert_told(run("merge", str(tmp_path / "x.yaml"), str(tmp_path / "out")), "x.yaml:", "did you mean 'method'?")


def test_an_unknown_method_is_told_the_choices(tmp_path: Path):
    text = (RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8").replace("dare_ties", "dare_tise")
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert_told(run("merge", str(tmp_path / "x.yaml"), str(tmp_path / "out")), "dare_tise", "dare_ties")


@pytest.mark.parametrize(
    ("changed", "level", "key"),
    [("algorithm: cma ", "error", "search.algorithm"), ("switch: 9\n  algorithm: cmaes ", "note", "search.switch")],
)
def test_the_check_tells_what_a_searcher_cannot_do(tmp_path: Path, changed: str, level: str, key: str):
    text = (RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8").replace("algorithm: cmaes ", changed)
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    done = run("recipe", "check", str(tmp_path / "x.yaml"), "--json")
    assert done.returncode == (2 if level == "error" else 0), done.stderr
    found = {finding["key"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
    assert found[key] == level


@pytest.mark.parametrize(
    ("named", "given", "key", "told"),
    [
        ("search: zoo-vqa:search", "search: zoo-vqq:search", "data.search", "unknown task 'zoo-vqq'"),
        ("validation: zoo-vqa:validation", "validation: zoo-vqa:vali", "data.validation", "has no split 'vali'"),
        ("test: zoo-vqa:test\n", "test: zoo-vqa:test\n  preset: greedi\n", "data.search", "takes no preset"),
        ("test: zoo-vqa:test\n", "test: zoo-vqa:test\n  revisions: {a/b: main}\n", "data.revisions", "reads 'a/b'"),
        ("search: zoo-vqa:search", "search: zoo-medium-vqa:test", "data.search", "is a test set"),
        ("  algorithm: cmaes ", "  objectives: [zoo-maths:vali]\n  algorithm: nsga2 ", "search.objectives", "vali"),
        ("  algorithm: cmaes ", "  objectives: [layerz]\n  algorithm: nsga2 ", "search.objectives", "'layerz'"),
        (
            "  algorithm: cmaes ",
            "  objectives: [zoo-maths:test]\n  algorithm: nsga2 ",
            "search.objectives",
            "a test set",
        ),
    ],
)
def test_the_check_tells_what_data_there_is_not(tmp_path: Path, named: str, given: str, key: str, told: str):
    text = (RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8")
    assert named in text
    (tmp_path / "x.yaml").write_text(text.replace(named, given), encoding="utf-8")
    done = run("recipe", "check", str(tmp_path / "x.yaml"), "--json", "--no-ask")
    assert done.returncode == 2, done.stderr
    found = {finding["key"]: finding["text"] for finding in json.loads(done.stdout)["findings"]}
    assert told in found[key]


def test_the_check_notes_data_that_are_not_here_yet(tmp_path: Path):
    text = (RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8").replace("zoo-vqa:search", "custom-vqa@d.jsonl:search")
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    done = run("recipe", "check", str(tmp_path / "x.yaml"), "--json", "--no-ask")
    assert done.returncode == 0, done.stderr
    [found] = [finding for finding in json.loads(done.stdout)["findings"] if finding["key"] == "data.search"]
    assert (found["level"], "d.jsonl: no such file" in found["text"]) == ("note", True)


def test_a_model_that_is_nowhere_is_told_how_to_get_it(tmp_path: Path):
    text = (RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8").replace("zoo:ja", "nobody/nothing")
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert_told(run("merge", str(tmp_path / "x.yaml"), str(tmp_path / "out")), "nobody/nothing", "--download")


@pytest.mark.parametrize(
    "words",
    [
        ("merge", "many.yaml", "out"),
        ("evolve", "many.yaml", "--out", "out"),
        ("recipe", "check", "many.yaml"),
        ("evaluate", "many.yaml", "--data", "zoo-maths:test"),
    ],
    ids=lambda words: words[0],
)
def test_every_source_that_cannot_be_opened_is_told_at_once(words: tuple[str, ...], tmp_path: Path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pytorch_model.bin").write_bytes(b"never read")
    sources = "".join(f"  - {{name: {name}, model: ./{name}}}\n" for name in ("first", "second", "third"))
    (tmp_path / "many.yaml").write_text(
        f"kind: llm\nmethod: linear\nbase: {{model: owner/absent}}\nsources:\n{sources}"
        "  - {name: fine, model: 'zoo:ja'}\nsearch: {items: 4}\n"
        "data: {search: 'zoo-maths:search', validation: 'zoo-maths:validation', test: 'zoo-maths:test'}\n"
    )
    done = run(*words, cwd=tmp_path)
    told = " ".join(done.stderr.split())
    assert_told(done, "4 models cannot be opened", "base: owner/absent", "source third:", "no such folder")
    for name in ("first", "second"):
        assert f"source {name}: " in told
        assert f"`evovlm convert {name} OUT`" in told.replace(f"{tmp_path}/", "").replace("./", "")
    assert "source fine" not in told
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_exists_is_left_alone(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert_told(run("merge", str(RECIPES / "zoo-vlm.yaml"), str(tmp_path / "out")), "exists")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_a_study_that_is_none_is_told(tmp_path: Path):
    assert_told(run("report", str(tmp_path)), "study")


def test_an_unknown_task_is_told_the_choices():
    assert_told(run("evaluate", "zoo:vlm", "--data", "zoo-vqq:test"), "zoo-vqq", "zoo-vqa")


def test_an_unknown_split_is_told_the_choices():
    assert_told(run("evaluate", "zoo:vlm", "--data", "zoo-vqa:tset"), "tset", "validation")


def test_a_merge_prints_where_the_checkpoint_lies(tmp_path: Path):
    done = run("merge", str(RECIPES / "zoo-vlm.yaml"), "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "out:" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert {"config.json", "README.md", "recipe.yaml", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_a_merged_checkpoint_says_how_to_rebuild_it(tmp_path: Path):
    assert run("merge", str(RECIPES / "zoo-llm.yaml"), "first", cwd=tmp_path).returncode == 0
    assert run("merge", "first/recipe.yaml", "second", cwd=tmp_path).returncode == 0
    one, two = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert one.read_bytes() == two.read_bytes()


def test_the_check_speaks_to_machines(tmp_path: Path):
    done = run("recipe", "check", str(RECIPES / "zoo-vlm.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fits"] is True


def test_the_check_says_how_each_model_can_be_asked(tmp_path: Path):
    checked = json.loads(run("recipe", "check", "zoo-vlm", "--json", cwd=tmp_path).stdout)
    assert [(row["key"], row["merged"], row["asked"]) for row in checked["models"]] == [
        (key, True, "fast") for key in ("base", "sources.vlm", "sources.ja")
    ]
    assert all(row["tokens_per_second"] > 0 for row in checked["models"])
    quick = json.loads(run("recipe", "check", "zoo-vlm", "--json", "--no-ask", cwd=tmp_path).stdout)
    assert {row["asked"] for row in quick["models"]} == {"not tried"}
    assert quick["fits"] == checked["fits"] is True


def test_a_search_whose_owner_cannot_be_asked_does_not_fit(tmp_path: Path):
    shutil.copytree(FOLDER / "ja", tmp_path / "ja")
    config = json.loads((tmp_path / "ja" / "config.json").read_text())
    (tmp_path / "ja" / "config.json").write_text(json.dumps(config | {"model_type": "mine"}))
    recipe = "kind: llm\nsources: [{name: ja, model: ja}, {name: math, model: 'zoo:math'}]\nmethod: linear\n"
    (tmp_path / "merge.yaml").write_text(recipe)
    (tmp_path / "search.yaml").write_text(recipe + "search: {trials: 4}\n")
    merged = run("recipe", "check", "merge.yaml", cwd=tmp_path)
    assert merged.returncode == 0
    assert "no: is of the kind 'mine'" in " ".join(merged.stdout.split())
    assert_told(run("recipe", "check", "search.yaml", cwd=tmp_path), "does not fit")


def test_a_misfit_is_an_exit_code_of_two(tmp_path: Path):
    text = (RECIPES / "zoo-llm.yaml").read_text(encoding="utf-8")
    (tmp_path / "x.yaml").write_text(text.replace("method: dare_ties", "method: passthrough"), encoding="utf-8")
    assert run("recipe", "check", str(tmp_path / "x.yaml")).returncode == 2


def test_conversion_to_mergekit_and_back_keeps_the_merge(tmp_path: Path):
    theirs = run("recipe", "convert", str(RECIPES / "zoo-llm.yaml"), "--to", "mergekit")
    assert theirs.returncode == 0, theirs.stderr
    (tmp_path / "theirs.yml").write_text(theirs.stdout, encoding="utf-8")
    ours = run("recipe", "convert", str(tmp_path / "theirs.yml"), "--to", "evovlm")
    assert ours.returncode == 0, ours.stderr
    assert "dare_ties" in ours.stdout


def test_evaluate_prints_one_json_object():
    done = run("evaluate", "zoo:ja", "--data", "zoo-maths:test", "--items", "8", "--json")
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["items"] == 8
    assert {"score", "ci95", "exact", "seed", "versions", "hardware"} <= set(row)
    assert row["versions"]["commit"] == commit()


def test_evaluate_takes_anybodys_file_and_a_preset(tmp_path: Path):
    rows = [
        {"question": f"箱に{n}個の石があり、2個もらいました。全部で何個ですか。", "reference": str(n + 2)}
        for n in range(4)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ("evaluate", "zoo:ja", "--data", "custom-maths@mine.jsonl:test", "--json")
    done = run(*words, "--preset", "plain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["items"], row["rules"]["preset"], row["generation"]["template"]) == (4, "plain", "{question}\n")
    refused = run(*words, "--preset", "fast", cwd=tmp_path)
    assert refused.returncode == 2
    assert "plain" in refused.stderr


def test_the_version_names_the_code():
    assert run("--version").stdout == f"evovlm {evovlm.__version__} ({commit()})\n"


@pytest.mark.parametrize("words", [("merge", "zoo-vml", "out"), ("evolve", "zoo-vml", "--out", "out")])
def test_a_recipe_that_is_not_there_is_told_with_those_that_are(words: tuple[str, ...], tmp_path: Path):
    assert_told(run(*words, cwd=tmp_path), "zoo-vml: no such recipe file", "'zoo-llm', 'zoo-medium-vlm'")
    assert_told(run("bench", "run", "zooo", cwd=tmp_path), "zooo: no such suite file", "'evovlm-jp', 'zoo',")


def test_shipped_recipes_are_listed_shown_and_taken_by_name(tmp_path: Path):
    rows = json.loads(run("recipe", "list", "--json", cwd=tmp_path).stdout)
    assert [row["name"] for row in rows] == sorted(path.stem for path in RECIPES.glob("*.yaml"))
    assert "zoo-vlm" in run("recipe", "list", cwd=tmp_path).stdout
    shown = run("recipe", "show", "zoo-vlm", cwd=tmp_path).stdout
    assert shown == (RECIPES / "zoo-vlm.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(shown, encoding="utf-8")
    checks = [run("recipe", "check", name, "--json", cwd=tmp_path).stdout for name in ("zoo-vlm", "mine.yaml")]
    assert json.loads(checks[0])["digest"] == json.loads(checks[1])["digest"]


def test_evaluate_takes_a_recipe(tmp_path: Path):
    done = run("evaluate", "zoo-llm", "--data", "zoo-maths:test", "--items", "4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_bench_opens_the_benchmarks(tmp_path: Path):
    done = process("bench", "tasks", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mgsm-ja" in json.loads(done.stdout)["tasks"]
