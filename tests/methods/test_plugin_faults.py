"""What a plugin does wrong is told as the plugin's: by name, in one sentence, with exit code 2."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evovlm.methods import METHODS, OwnOptions, method, prepared_method
from evovlm.system import plugins
from tests.command import Done, evovlm_here

Install = Callable[[str], None]
RECIPE = """\
kind: llm
base: {model: zoo:base}
sources: [{name: ja, model: zoo:ja}, {name: math, model: zoo:math}]
method: mine
search: {trials: 4, population: 4, items: 2, density: null}
data: {search: zoo-maths:search, validation: zoo-maths:validation, test: zoo-maths:test}
"""
HEAD = """\
import numpy, torch
from evovlm.methods import method, prepared_method

@method("mine")
def mine(base, operands, options):
    """


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that installs the text of a module as the plugin `bad`, until the test ends."""
    rows = dict(METHODS)

    def installed(text: str) -> None:
        info = tmp_path / "bad-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nbad = bad_plugin\n")
        (tmp_path / "bad_plugin.py").write_text(text)
        (tmp_path / "mine.yaml").write_text(RECIPE)
        monkeypatch.syspath_prepend(str(tmp_path))
        plugins.load_plugins.cache_clear()

    yield installed
    sys.modules.pop("bad_plugin", None)
    METHODS.clear()
    METHODS.update(rows)
    plugins.load_plugins.cache_clear()


def refused(done: Done) -> str:
    """The sentence of a command that was refused."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert "report" not in done.stderr
    assert len(done.stderr) < 1500
    return done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.exit(0)",
        "import sys; sys.exit(1)",
        "raise GeneratorExit('no')",
        "class Own(BaseException): pass\nraise Own('no')",
        "raise ValueError('x' * 100_000)",
        "from evovlm.methods import method\nmethod('q', uses=('nope',))(print)",
        "from evovlm.methods import method\nmethod('q', options=dict)(print)",
    ],
)
def test_a_plugin_that_ends_its_import_in_any_way_is_named(text: str, install: Install, tmp_path: Path):
    install(text)
    assert "plugin bad (bad_plugin) cannot be loaded: " in refused(evovlm_here("methods", "linear", folder=tmp_path))


def test_ctrl_c_while_a_plugin_is_loaded_stays_the_users(install: Install, tmp_path: Path):
    install("raise KeyboardInterrupt")
    assert evovlm_here("methods", "linear", folder=tmp_path).returncode == 130


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "returned None for"),
        ("return 'text'", "an object of the type str"),
        ("return base.numpy()", "an object of the type ndarray"),
        ("return torch.empty(base.shape, device='meta')", "a tensor without values"),
        ("return torch.zeros(base.shape).to_sparse()", "a tensor that is not dense"),
        ("return base + 1j", "a tensor of complex numbers"),
        ("return base.int()", "a tensor of the type int32, which has no fractions"),
        ("return base[:1]", "returned shape ["),
        ("raise RuntimeError('x' * 100_000)", "failed (RuntimeError: xxx"),
        ("raise StopIteration", "failed (StopIteration:"),
        ("raise KeyError('x')", "failed (KeyError: 'x')"),
        ("raise SystemExit(0)", "failed (SystemExit: 0)"),
    ],
)
def test_what_a_plugins_method_does_wrong_names_plugin_method_and_tensor(
    body: str, says: str, install: Install, tmp_path: Path
):
    install(HEAD + body)
    told = refused(evovlm_here("merge", "mine.yaml", "out", folder=tmp_path))
    assert says in told
    assert "error: method: mine " in told
    assert "tensor " in told
    assert "plugin bad" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "prepared NoneType in place of a list"),
        ("return sources[:1]", "prepared 1 task vectors"),
        ("return [None, None]", "prepared None"),
        ("raise RuntimeError('no')", "failed (RuntimeError: no)"),
    ],
)
def test_what_a_plugins_prepared_method_does_wrong_names_it_too(body: str, says: str, install: Install, tmp_path: Path):
    install(HEAD.replace("@method", "@prepared_method").replace("operands", "sources") + body)
    for words in (("merge", "mine.yaml", "out"), ("evolve", "mine.yaml", "--out", "study", "--dry-run", "--measure")):
        told = refused(evovlm_here(*words, folder=tmp_path))
        assert says in told
        assert "plugin bad" in told


@pytest.mark.slow
def test_a_plugins_method_that_fails_for_some_weights_loses_those_candidates_only(install: Install, tmp_path: Path):
    install(HEAD + "assert operands[0].weight > 0.5\n    return base\n")
    done = evovlm_here("evolve", "mine.yaml", "--out", "study", "--judged", "4", folder=tmp_path)
    assert done.returncode in (0, 2), done.stderr
    rows = (tmp_path / "study" / "trials.jsonl").read_text()
    assert "UnfitValues: method: mine failed (AssertionError:" in rows


def test_a_method_that_is_no_plugins_keeps_its_own_exception(install: Install):
    install("")

    @method("broken")
    def broken(*_: object) -> None:
        raise KeyError("ours")

    from evovlm.methods import blaming_plugins

    with pytest.raises(KeyError), blaming_plugins("broken", "tensor"):
        broken()


class Plain(OwnOptions):
    """No options."""


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("q", {"uses": ("nope",)}, "uses="),
        ("q", {"uses": "lambda"}, "uses="),
        ("q", {"options": dict}, "options="),
        ("q", {"options": Plain()}, "options="),
        ("q", {"drop": "some"}, "drop="),
        ("q", {"fewest": 0}, "fewest=0"),
        ("q", {"fewest": 3, "most": 2}, "most=2"),
        ("../q", {}, "the name has to be"),
        (7, {}, "the name has to be"),
    ],
)
def test_a_method_is_refused_when_it_is_registered(name: str, arguments: dict[str, object], says: str):
    before = dict(METHODS)
    with pytest.raises(ValueError, match=says):
        method(name, **arguments)(print)  # type: ignore[arg-type]
    if "uses" not in arguments and "drop" not in arguments:
        with pytest.raises(ValueError, match=says):
            prepared_method(name, **arguments)(print)  # type: ignore[arg-type]
    assert before == METHODS
