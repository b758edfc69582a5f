"""The recipes for Qwen2.5-VL and Qwen3-VL in the app: models cut down, in the hub's cache, offline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from evovlm.engines.hf import Engine
from evovlm.recipe.yaml_file import read_recipe
from evovlm.tasks import Item, Options, parse_split
from tests.app.conftest import SECOND, Served, Visitor, serve
from tests.command import evovlm_here
from tests.hub_cache import cache_repository
from tests.test_family_recipes import ROOT, save_models

gradio_client = pytest.importorskip("gradio_client")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECIPES = ("qwen2.5-vl-abeja", "qwen3-vl-swallow")
QUESTION = "この写真には何が写っていますか?"
SIZES = [(50, 40), (60, 200), (640, 480), (1500, 300), (1, 1)]


def draw(path: Path, size: tuple[int, int], colour: str = "red") -> Path:
    """A picture whose places differ."""
    image = Image.new("RGB", size, colour)
    image.paste((250, 240, 200), (0, 0, size[0] // 2, size[1] // 3))
    image.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes, and a hub cache with their models."""
    root = tmp_path_factory.mktemp("families")
    (root / "recipes").mkdir()
    for name in RECIPES:
        for model, saved in save_models(name, root / "models" / name).items():
            cache_repository(root / "home" / "hub", model, saved)
        text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
        # The tiny models are float32: in bfloat16 a checkpoint's vision part would be rounded, in memory it is not.
        text = text.replace("groups: 8 ", "groups: 2 ").replace("dtype: bfloat16", "dtype: float32")
        (root / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def families(folder: Path) -> Iterator[Served]:
    """The app on both recipes, which call their sources alike."""
    models = [word for name in RECIPES for word in ("--models", f"recipes/{name}.yaml")]
    yield from serve(folder, *models, root=folder, home=folder / "home")


@pytest.fixture(scope="module")
def client(families: Served) -> Any:
    return gradio_client.Client(families.url, verbose=False)


def compare(client: Any, picture: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    rows = client.predict(gradio_client.handle_file(picture), QUESTION, names, api_name="/compare")
    return {row["model"]: row for row in rows}


@pytest.mark.parametrize("name", RECIPES)
def test_sources_and_merge_answer_about_pictures_of_any_size(client: Any, name: str, tmp_path: Path):
    names = [f"vlm {name}", f"ja {name}", f"merged {name}"]
    said: dict[str, list[str]] = {name: [] for name in names}
    for size in SIZES:
        for model, row in compare(client, draw(tmp_path / "picture.png", size), names).items():
            assert row["state"] == "done"
            assert row["tokens"] > 0
            said[model].append(row["answer"])
    assert len(set(said[names[1]])) == 1  # a language model sees none of them
    for seeing in (names[0], names[2]):
        assert len(set(said[seeing])) > 2
    assert said[names[0]] != said[names[2]]


def asked(engine: Engine, folder: Path, recipe: str, picture: Path) -> Any:
    """The question about a picture, prepared for an engine as the recipe's test data ask."""
    data = read_recipe(folder / "recipes" / f"{recipe}.yaml").data
    assert data is not None
    item = Item("one", QUESTION, ("x",), image=lambda: Image.open(picture))
    return engine.prepare([item], parse_split(data.test, Options(preset=data.preset))[0].generation, 1)


@pytest.mark.parametrize("name", RECIPES)
def test_an_answer_is_the_engine_s(client: Any, folder: Path, name: str, tmp_path: Path):
    path = draw(tmp_path / "picture.png", (60, 200), "blue")
    engine = Engine.load(folder / "models" / name / "seeing")
    expected = engine.answer(asked(engine, folder, name, path))[0]
    assert compare(client, path, [f"vlm {name}"])[f"vlm {name}"]["answer"] == expected


def test_a_picture_that_a_processor_refuses_is_refused_in_a_sentence(client: Any, families: Served, tmp_path: Path):
    names = [f"vlm {RECIPES[1]}", f"ja {RECIPES[1]}"]
    rows = compare(client, draw(tmp_path / "picture.png", (1000, 4)), names)
    assert [rows[name]["state"] for name in names] == ["unfit", "done"]
    assert not any(line["event"] == "unexpected" for line in families.log())


@pytest.mark.parametrize("name", RECIPES)
def test_a_mix_answers_as_its_saved_recipe_does_on_disk(
    client: Any, folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = draw(tmp_path / "picture.png", (60, 200), "blue")
    said = []
    for weight in (0.2, 0.9):
        parameters = {"vlm": {"weight": 1.0, "density": 1.0}, "ja": {"weight": weight, "density": 1.0}}
        picture = gradio_client.handle_file(path)
        row = client.predict(name, parameters, "task_arithmetic", 0, picture, QUESTION, api_name="/mix")
        assert row["state"] == "done"
        said.append(row["answer"])
    assert said[0] != said[1]
    (tmp_path / "saved.yaml").write_text(row["recipe"], encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "home" / "hub"))
    done = evovlm_here("merge", "saved.yaml", "merged", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    engine = Engine.load(tmp_path / "merged", dtype=torch.float32)
    assert engine.answer(asked(engine, folder, name, path)) == [said[1]]


def test_a_question_without_a_picture_asks_for_one(client: Any):
    with pytest.raises(Exception, match="image"):
        client.predict(None, QUESTION, [f"vlm {RECIPES[1]}"], api_name="/compare")


def test_a_visitor_uploads_a_picture_and_reads_three_answers(chromium: Any, families: Served, tmp_path: Path):
    person = Visitor(chromium, families.url, "ja-JP")
    person.page.wait_for_timeout(SECOND)
    field = person.page.locator("#compare-picture input[type=file]")
    field.first.set_input_files(str(draw(tmp_path / "picture.png", (640, 480))))
    person.page.locator("#compare-picture img").wait_for()
    person.page.wait_for_timeout(SECOND)
    person.page.locator("#compare-question textarea, #compare-question input").first.fill(QUESTION)
    person.page.click("#compare-ask")
    answers = person.answers("compare", 3)
    assert all(answers.values())
    assert len(set(answers.values())) == 3
    assert person.strays == []
    person.context.close()
