from pathlib import Path

import pytest

from evovlm.merging.check import licence_of


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\nlanguage: ja\n---\n# Model", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama2\n---\n", "llama2"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\nlanguage: ja\n---\nlicense: mit", None),
        ("# license: mit", None),
        ("---\nlicense: mit", None),
        ("---\n[broken: {\n---\n", None),
        ("---\njust text\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_is_what_the_front_matter_declares(tmp_path: Path, text: str, licence: str | None):
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert licence_of(tmp_path) == licence


def test_a_folder_without_a_readme_declares_no_licence(tmp_path: Path):
    assert licence_of(tmp_path) is None
