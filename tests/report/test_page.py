import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import plotly.io
import pytest
import yaml

from evovlm.report import write_report
from tests.report.study_folder import make_study, write_rows

LOADS = {"src", "href", "srcset", "poster", "data", "action", "background"}


class Page(HTMLParser):
    """Attributes that make a browser load something, words that people read, and what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.plots: list[dict[str, str | None]] = []
        self.policy = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        named = dict(attrs)
        self.loaded += [value or "" for name, value in attrs if name in LOADS]
        if tag == "img":
            self.images.append(named)
        if named.get("class") == "plot":
            self.plots.append(named)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"] or ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(study: Path) -> Page:
    return Page(write_report(study).read_text(encoding="utf-8"))


@pytest.fixture
def page(study: Path) -> Page:
    return page_of(study)


def test_the_page_asks_no_host_for_anything(study: Path, page: Page):
    assert page.loaded, "images and the icon are loaded from somewhere"
    assert all(url.startswith("data:") for url in page.loaded), page.loaded
    style = "".join(re.findall(r"<style>(.*?)</style>", (study / "report.html").read_text(encoding="utf-8"), re.S))
    assert "url(" not in style
    assert "@import" not in style
    # Should a script try all the same, the browser refuses: no source of the policy is a host.
    assert "default-src 'none'" in page.policy
    assert not re.search(r"https?:|\*|connect-src", page.policy)


def test_plotly_is_there_once(study: Path):
    write_report(study)
    text = (study / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r"plotly\.js v\d", text)) == 1


def test_every_figure_is_one_that_plotly_can_draw(page: Page):
    figures = json.loads(page.scripts[0])
    assert set(figures) == {
        "scores",
        "best-weight",
        "best-density",
        "history-weight",
        "history-density",
        "seconds",
    }
    for figure in figures.values():
        plotly.io.from_json(json.dumps(figure))


def test_every_figure_has_a_place_and_is_told_in_words(page: Page):
    figures = json.loads(page.scripts[0])
    assert {plot["id"] for plot in page.plots} == {f"plot-{name}" for name in figures}
    assert all(len(plot["aria-label"] or "") > 40 for plot in page.plots)


def test_the_score_figure_has_trials_best_mean_and_failures(page: Page):
    traces = {trace["name"]: trace for trace in json.loads(page.scripts[0])["scores"]["data"]}
    assert set(traces) == {"each trial", "mean of the generation", "best so far", "failed"}
    assert len(traces["each trial"]["x"]) == 39
    assert traces["failed"]["x"] == [5]
    assert len(traces["mean of the generation"]["x"]) == 5


def test_the_headline_has_every_model_with_interval_and_exact_share(page: Page):
    for part in ("source vlm", "plain average of the sources", "58.30 to 62.00", "31.0%", "+0.90 [-1.10, +2.90] n.s."):
        assert part in page.text
    for part in ("a laptop, 2 cores", "torch 2.13.0", "zoo-vqa:test", "40 (1 failed)"):
        assert part in page.text


def test_answers_stand_beside_their_images(study: Path, page: Page):
    assert len(page.images) == 3
    for number, image in enumerate(page.images):
        kind, content = (image["src"] or "").split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == (study / "images" / f"test-{number}.png").read_bytes()
        assert "Question: " in (image["alt"] or "")
    for part in ("わかりません。", "青い丸です。", "(empty)", "赤い四角の左にあるものは何ですか？"):
        assert part in page.text


def test_what_comes_from_a_file_cannot_become_markup(study: Path):
    rows = (study / "heldout_answers.jsonl").read_text(encoding="utf-8")
    (study / "heldout_answers.jsonl").write_text(rows.replace("わかりません。", "<script>alert(1)</script>"), "utf-8")
    trials = (study / "trials.jsonl").read_text(encoding="utf-8")
    (study / "trials.jsonl").write_text(trials.replace("FloatingPointError", "</script><b>x</b>"), encoding="utf-8")
    page = page_of(study)
    assert "<script>alert(1)</script>" in page.text, "told as text"
    assert not any("alert(1)" in script for script in page.scripts)
    assert len(page.scripts) >= 3
    assert "</script><b>x</b>" in json.loads(page.scripts[0])["scores"]["data"][3]["text"][0]


def test_the_recipe_and_its_digest_stand_in_the_page(page: Page):
    assert "method: dare_ties" in page.text
    assert re.search(r"# evovlm recipe [0-9a-f]{32}", page.text)


def test_failures_are_told(page: Page):
    assert "the merged weights are not finite" in page.text


def test_a_study_in_its_search_has_a_report(tmp_path: Path):
    page = page_of(make_study(tmp_path / "mid", trials=19, finished=False))
    assert "No held-out result yet" in page.text
    assert {"scores", "best-weight", "history-weight"} <= set(json.loads(page.scripts[0]))


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_that_has_just_begun_has_a_report(tmp_path: Path, trials: int):
    page = page_of(make_study(tmp_path / "new", trials=trials, finished=False))
    assert "No held-out result yet" in page.text


def test_the_picture_for_other_pages_is_written_beside(study: Path):
    write_report(study)
    assert (study / "scores.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_folder_with_a_language_model_study_has_no_images(study: Path):
    for image in (study / "images").iterdir():
        image.unlink()
    page = page_of(study)
    assert page.images == []
    assert "青い丸です。" in page.text


def constant_study(folder: Path) -> Path:
    """A study with a group per layer, which searched no densities."""
    study = make_study(folder)
    for name in ("study.json", "best.yaml"):
        path = study / name
        text = path.read_text(encoding="utf-8").replace("layers 0-1", "layers 0-0").replace("layers 2-3", "layers 1-3")
        path.write_text(text, encoding="utf-8")
    best = yaml.safe_load((study / "best.yaml").read_text(encoding="utf-8"))
    for parameters in best["parameters"].values():
        parameters["density"] = 0.5
    (study / "best.yaml").write_text(yaml.safe_dump(best), encoding="utf-8")
    return study


def test_constant_densities_are_a_sentence_and_no_heat_map(tmp_path: Path):
    page = page_of(constant_study(tmp_path / "constant"))
    assert "best-density" not in json.loads(page.scripts[0])
    assert "best-weight" in json.loads(page.scripts[0])
    assert "Every density is 0.50." in page.text


def test_a_single_layer_is_not_called_a_range(tmp_path: Path):
    text = write_report(constant_study(tmp_path / "constant")).read_text(encoding="utf-8")
    figures = json.loads(Page(text).scripts[0])
    assert figures["best-weight"]["data"][0]["y"] == ["embeddings", "layer 0", "layers 1-3", "head"]
    assert "vlm · layer 0" in figures["history-weight"]["data"][0]["y"]
    assert "vlm.weight.layer 0" in text


def test_the_winner_stands_where_the_terminal_shows_it(page: Page):
    places = [page.text.index(name) for name in ("source ja", "evolved 60.10", "plain average of the sources 44.30")]
    assert places == sorted(places)


def test_what_audits_of_cheap_answers_found_is_told(study: Path):
    assert "Lower fidelity first" not in page_of(study).text
    write_rows(
        study / "events.jsonl",
        [{"event": "fidelity", "told": "cheap <b>"}, {"event": "audit", "told": "tau 0.31"}, {"event": "resumed"}],
    )
    assert "Lower fidelity first cheap <b> tau 0.31" in page_of(study).text
