from pathlib import Path

import pytest

from evovlm.system import files
from evovlm.system.errors import StudyError
from evovlm.system.files import counted_from


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a folder `there` and a link to it from elsewhere."""
    (tmp_path / "real" / "there").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/there")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("root", [".", "there", "./there/", "../outside", "/somewhere"])
@pytest.mark.parametrize("path", ["data", "./data", "a/../data", "../data", ".", ""])
def test_a_counted_path_is_absolute_and_plain_and_stays_so(place: Path, root: str, path: str):
    found = counted_from(Path(root), path)
    assert found.is_absolute()
    assert not {".", ".."} & set(found.parts)
    assert counted_from(Path(root), found) == found


def test_absolute_paths_and_home_folders_do_not_count_from_the_root(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert counted_from(place, "/data/x") == Path("/data/x")
    assert counted_from(place, "~/x") == Path("/home/me/x")
    assert counted_from(place, "~nobody-of-this-name/x") == place / "~nobody-of-this-name/x"


def test_a_link_is_kept_but_the_folder_above_it_is_the_one_above_its_target(place: Path):
    assert counted_from(Path(), "link/file") == place / "link" / "file"
    assert counted_from(Path("link"), "../file") == place / "real" / "file"
    (place / "real" / "file").write_text("")
    assert counted_from(Path("link"), "../file").samefile(Path("link/../file"))


def test_above_a_folder_that_does_not_exist_is_the_folder_it_would_be_in(place: Path):
    assert counted_from(Path("missing"), "../data") == place / "data"


def test_a_file_larger_than_any_of_ours_is_refused_without_being_read(tmp_path: Path):
    path = tmp_path / "study.json"
    path.write_text("{}")
    with path.open("r+b") as file:
        file.truncate(2**40)  # sparse: it takes no room, and cannot be read whole
    with pytest.raises(StudyError, match=r"study\.json: cannot be read: it has more than 16,777,216 bytes"):
        files.read_json(path)


@pytest.mark.parametrize("ended", [True, False])
def test_a_line_longer_than_any_of_ours_is_damaged_and_the_next_one_is_read(tmp_path: Path, ended: bool):
    path = tmp_path / "trials.jsonl"
    long = b'{"a": "' + b"x" * files.MOST_LINE_BYTES + b'"}'
    path.write_bytes(b'{"a": 1}\n' + long + (b'\n{"a": 3}\n' if ended else b""))
    with pytest.raises(StudyError, match=r"trials\.jsonl:2: damaged line"):
        list(files.read_rows(path))
    told: list[str] = []
    assert [row["a"] for row in files.read_rows(path, told.append)] == ([1, 3] if ended else [1])
    assert told == [f"{path}:2: damaged line; left out"]


@pytest.mark.parametrize("torn", [1, 10, files.BLOCK - 1, files.BLOCK, 2 * files.BLOCK + 3])
@pytest.mark.parametrize("whole", [b"", b'{"a": 1}\n'])
def test_a_torn_line_of_any_length_is_cut_off(tmp_path: Path, torn: int, whole: bytes):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(whole + b"{" * torn)
    files.mend_tail(path)
    assert path.read_bytes() == whole
