"""scripts/compare_mergekit.py without mergekit: its arguments, how it reads what a run left, and the page's section."""

import datetime
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.scripts import load_script
from tests.vlm_families import FAMILIES, PROPER, UNASKED

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "compare_mergekit.py"


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script("compare_mergekit")


def section(script: Any) -> str:
    page = script.PAGE.read_text(encoding="utf-8")
    text: str = page.split(script.BEGIN)[1].split(script.END)[0]
    return text


def test_the_page_names_mergekit_s_version_and_the_date(script: Any):
    first = section(script).splitlines()[0]
    found = re.fullmatch(
        r"mergekit ([\d.]+), torch ([\d.]+)\S*, transformers ([\d.]+), Python ([\d.]+), (20\d\d-\d\d-\d\d)\.", first
    )
    assert found is not None, first
    assert found[1] == script.MERGEKIT
    datetime.date.fromisoformat(found[5])


def test_the_page_has_a_row_for_every_family_and_the_columns_of_the_script(script: Any):
    lines = section(script).splitlines()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert rows == ["family", *(PROPER[name] for name in FAMILIES | UNASKED)]
    assert script.table({}).splitlines()[0] in lines
    told = {int(number) for number in re.findall(r"\berror (\d+)", section(script))}
    assert told == {int(line.split(".")[0]) for line in lines if re.match(r"\d+\. `", line)}


def test_outcomes_become_cells_and_equal_errors_share_a_number(script: Any):
    fine = script.Outcome(0, "", "3 of 3 tensors")
    rows = {
        "one": [script.Outcome(1, "KeyError: at 0x7f12", "error"), None, fine, None, fine],
        "two": [script.Outcome(1, "KeyError: at 0xabcd", "error"), script.Outcome(1, "No", "error"), fine, None, fine],
    }
    lines = script.table(rows).splitlines()
    assert lines[2] == "| one | error 1 |  | 3 of 3 tensors |  | 3 of 3 tensors |"
    assert lines[3] == "| two | error 1 | error 2 | 3 of 3 tensors |  | 3 of 3 tensors |"
    assert lines[-2:] == ["1. `KeyError: at 0x…`", "2. `No`"]


def test_an_error_is_its_exception_s_message_in_one_short_line(script: Any):
    said = "Traceback ...\n  File x\nValueError: Config LlavaConfig {\n 'a': 1\n} has\n no layers\n"
    assert script._error(said) == "ValueError: Config LlavaConfig {…} has no layers"
    assert len(script._error("RuntimeError: " + "x" * 999)) == script.MOST_SAID + 1


def test_a_run_that_is_known_is_not_repeated(script: Any, tmp_path: Path):
    asked = []

    def mergekit(folder: Path, log: Path, *words: str) -> int:
        asked.append(words)
        log.write_text("Traceback\nRuntimeError: no such model\n", encoding="utf-8")
        return 1

    for _ in range(2):
        found = script.run(mergekit, tmp_path, "on the VLM", crimes=True)
        assert (found.code, found.said) == (1, "RuntimeError: no such model")
    assert asked == [("on-the-VLM-crimes.yaml", "out-on-the-VLM-crimes", "--allow-crimes")]


def test_only_the_section_of_a_page_is_replaced(script: Any):
    page = f"before\n{script.BEGIN}old\n{script.END}after\n"
    assert script.with_section(page, "new\n") == f"before\n{script.BEGIN}new\n{script.END}after\n"


def test_arguments_are_a_folder_or_none(script: Any):
    assert script.arguments([]).folder is None
    assert script.arguments(["runs/there"]).folder == Path("runs/there")
    for words, code in ((["--help"], 0), (["--no-such-option"], 2), (["a", "b"], 2)):
        with pytest.raises(SystemExit) as stopped:
            script.arguments(words)
        assert stopped.value.code == code


@pytest.mark.slow
def test_what_a_run_wrote_is_told_apart(script: Any, tmp_path: Path):
    """Outputs that are known: nothing, the VLM itself, the text model alone."""
    script.save_pair("llava_next", tmp_path)
    (tmp_path / "nothing").mkdir()
    whole = len(script.tensors(tmp_path / "vlm"))
    text = len(script.tensors(tmp_path / "ja"))
    shutil.copytree(tmp_path / "vlm", tmp_path / "vlm-again")
    assert script.written(tmp_path, tmp_path / "nothing", "on the VLM") == "nothing written, exit code 0"
    said = script.written(tmp_path, tmp_path / "vlm-again", "on the VLM")
    assert said == f"{whole} of {whole} tensors, vision whole, loads, tower: {text} the VLM's"
    said = script.written(tmp_path, tmp_path / "ja", "on the text model")
    found = re.fullmatch(r"(\d+) of \d+ tensors, no vision, loads as a text model, tower: (\d+) the text model's", said)
    assert found is not None, said
    assert found[1] == found[2] == str(text)
