from pathlib import Path

import pytest

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
