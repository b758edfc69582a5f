"""Every way in which a command line can end: an exit code, at most one sentence, and never a traceback."""

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest
import typer

from evovlm.cli import entry
from evovlm.system import crash_log
from evovlm.system.errors import UserError


def end(raised: BaseException | None, *words: str) -> int:
    """The exit code of a program that raises this."""
    app = typer.Typer(add_completion=False)

    @app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def work() -> None:
        if raised is not None:
            raise raised

    with pytest.raises(SystemExit) as ended:
        entry.run(app, list(words), name="program")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that logs go to."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "evovlm"


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (None, 0, ""),
        (UserError("recipe.yaml:3: [red]method[/nope]: wrong"), 2, "error: recipe.yaml:3: [red]method[/nope]: wrong\n"),
        (OSError(errno.EMFILE, "Too many open files", "x"), 2, "error: x: Too many open files; raise the limit with"),
        (OSError(errno.EFBIG, "File too large", "x"), 2, "error: x: File too large; the file size limit"),
        (MemoryError(), 2, "error: not enough memory (MemoryError); free memory or lower the batch size"),
        (RuntimeError("can't start new thread"), 2, "error: not enough memory (can't start new thread)"),
        (KeyboardInterrupt(), 130, "interrupted; no partial files were left, run the same command to resume\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    ],
)
def test_each_end_has_its_code_and_sentence(
    raised: BaseException | None, code: int, says: str, capsys: pytest.CaptureFixture[str], state: Path
):
    assert end(raised) == code
    told = capsys.readouterr().err
    assert told.startswith(says) if says else told == ""
    assert not state.exists()


def test_a_current_folder_that_was_deleted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError) as raised:
        Path.cwd()
    assert end(raised.value) == 2
    assert capsys.readouterr().err.startswith("error: the current folder was deleted meanwhile; change to another")


def test_an_unforeseen_error_is_a_sentence_and_a_log_of_the_owners(state: Path, capsys: pytest.CaptureFixture[str]):
    assert end(KeyError("[red]lost[/]"), "--auth", "guest:secret", "--storage", "mysql://me:secret@host/x") == 70
    told = capsys.readouterr().err
    (log,) = state.iterdir()
    assert told == f"error: an unforeseen error (KeyError: '[red]lost[/]'); please report it with {log}\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    text = log.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert "raise raised" in text
    assert "evovlm: " in text
    assert "'program', '--auth', '(hidden)', '--storage', 'mysql://me:(hidden)@host/x'" in text
    assert "secret" not in text


def test_a_log_goes_to_the_temporary_folder_if_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log = crash_log.record(ValueError("x"), ["evovlm"])
    assert log is not None
    assert log.parent == tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", ""], "error: an argument is empty (after --out)"),
        (["--out="], "error: an argument is empty (after --out)"),
        (["a\0b"], "error: an argument contains a NUL byte"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    assert end(None, *words) == 2
    assert capsys.readouterr().err.startswith(says)


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_NUM_THREADS", "abc"), ("OMP_NUM_THREADS", "99999"), ("HF_HUB_DOWNLOAD_TIMEOUT", "x"), ("HF_HOME", __file__)],
)
def test_an_environment_that_libraries_stumble_over_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(name, value)
    assert end(None) == 2
    assert capsys.readouterr().err.startswith(f"error: {name}: ")


def test_python_without_docstrings_is_refused():
    environment = os.environ | {"PYTHONOPTIMIZE": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "evovlm", "methods"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: PYTHONOPTIMIZE, or the option -OO of Python, removes docstrings")


LIBRARY = """import os
if os.environ.get("MADE_UP_SETTING") not in (None, "right"):
    raise ValueError("no such setting" + os.environ.get("SUFFIX_OF_IT", ""))

def call():
    raise RuntimeError("cannot use " + os.environ["MADE_UP_SETTING"])
"""


@pytest.mark.parametrize("value", ["wrong", "right"])
def test_a_variable_that_a_library_stumbles_over_is_named(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
):
    (tmp_path / "made_up_library.py").write_text(LIBRARY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "made_up_library", raising=False)
    monkeypatch.setenv("MADE_UP_SETTING", value)
    with pytest.raises((ValueError, RuntimeError)) as caught:
        import_module("made_up_library").call()
    assert end(caught.value) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: MADE_UP_SETTING: a library {'cannot be loaded' if value == 'wrong' else 'fails'} ")
    assert told.count("\n") == 1
    assert not state.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TORCH_LOGS", "TORCHDYNAMO_REPRO_LEVEL"])
def test_a_variable_that_torch_stumbles_over_on_import_is_named(name: str, tmp_path: Path):
    words = ["evaluate", "zoo:ja", "--data", "zoo-maths:test", "--items", "1"]
    environment = os.environ | {name: "junk", "XDG_STATE_HOME": str(tmp_path)}
    with start(*words, env=environment) as process:
        said = process.communicate()[1]
    assert process.returncode == 2
    assert f"error: {name}: a library cannot be loaded with this in the environment" in said


def test_control_characters_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]):
    assert end(UserError("a.json: \x1b[31mred\x07\u202e\x9b; correct it")) == 2
    assert capsys.readouterr().err == "error: a.json: \\x1b[31mred\\x07\\u202e\\x9b; correct it\n"


def start(*words: str, **more: object) -> "subprocess.Popen[str]":
    """A process, as a user starts it."""
    command = [sys.executable, "-P", "-m", "evovlm", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)  # type: ignore[call-overload]


def test_a_reader_that_leaves_early_is_no_error():
    # Closed before anything is written, and with more output than a pipe holds.
    shell = f"{sys.executable} -P -m evovlm recipe list --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert done.stdout == "141\n"


def test_a_full_disk_behind_the_output_is_told():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-P", "-m", "evovlm", "recipe", "list", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr == "error: disk: No space left on device\n"


def test_ascii_output_is_escaped_and_stays_json(tmp_path: Path):
    app = tmp_path / "program.py"
    app.write_text(
        "import json, typer\nfrom evovlm.cli.entry import run_command\n"
        "def work() -> None:\n    print(json.dumps({'answer': '赤é😀'}, ensure_ascii=False))\n"
        "run_command(work)\n",
        encoding="utf-8",
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(app)], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '{"answer": "\\u8d64\\u00e9\\ud83d\\ude00"}\n'
    assert json.loads(done.stdout) == {"answer": "赤é😀"}


def test_an_error_while_the_command_line_loads_is_a_sentence_too(tmp_path: Path):
    code = (
        "import sys; sys.modules['rich'] = None; sys.modules['typer'] = None; from evovlm.__main__ import main; main()"
    )
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 70, done.stderr
    assert re.fullmatch(
        r"error: an unforeseen error \(ModuleNotFoundError: .*\); please report it with .*\n", done.stderr
    )
    assert "Traceback" in next((tmp_path / "evovlm").iterdir()).read_text(encoding="utf-8")


@pytest.mark.slow
def test_few_open_files_are_enough_to_start():
    shell = f"ulimit -n 64; {sys.executable} -P -m evovlm recipe check zoo-llm"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_an_error_in_a_thread_is_a_sentence(state: Path, capsys: pytest.CaptureFixture[str]):
    app = typer.Typer(add_completion=False)

    @app.command()
    def work() -> None:
        def fail() -> NoReturn:
            raise IndexError("in a thread")

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    with pytest.raises(SystemExit):
        entry.run(app, [], name="program")
    told = capsys.readouterr().err
    assert told.startswith("error: an unforeseen error (IndexError: in a thread)")
    assert "Traceback" not in told


@pytest.mark.slow
def test_ctrl_c_tells_how_to_go_on(tmp_path: Path):
    process = start("zoo", "train", "--out", str(tmp_path / "zoo"))
    time.sleep(20)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("interrupted; ")
