import json
from pathlib import Path

import pytest

from evovlm.report import write_report
from evovlm.report.data import best_so_far, generation_means, read_study, seconds_by_phase
from evovlm.study.log import Trial
from evovlm.system.errors import StudyError
from tests.report.study_folder import GENES, make_study


def trial(number: int, generation: int, score: float | None) -> Trial:
    return Trial(
        trial=number,
        generation=generation,
        genome=(0.5,),
        digest="",
        score=score,
        spread=None,
        exact=None,
        seconds={"merge": 1.0, "answer": 2.0} if score is not None else {"merge": 1.0},
        error=None if score is not None else "broke",
    )


TRIALS = [trial(0, 0, 3.0), trial(1, 0, 5.0), trial(2, 1, None), trial(3, 1, 4.0), trial(4, 2, None)]


def test_the_best_so_far_never_falls_and_skips_failures():
    assert best_so_far(TRIALS) == [(0, 3.0), (1, 5.0), (3, 5.0)]


def test_a_generations_mean_leaves_failures_out():
    assert generation_means(TRIALS) == [(0.5, 4.0), (2.5, 4.0)]


def test_seconds_are_added_by_phase():
    assert seconds_by_phase(TRIALS) == {"merge": 5.0, "answer": 6.0}


def test_genes_are_taken_apart_and_mapped_to_their_ranges(study: Path):
    data = read_study(study)
    assert [f"{g.source}.{g.parameter}.{g.group}" for g in data.genes] == GENES
    means = data.gene_means()
    first = [trial.genome[0] for trial in data.trials if trial.generation == 0]
    assert means[0][0] == pytest.approx(1.5 * sum(first) / len(first))
    low = [trial.genome[4] for trial in data.trials if trial.generation == 0]
    assert means[4][0] == pytest.approx(0.3 + 0.7 * sum(low) / len(low))


def test_a_gene_of_an_option_belongs_to_no_source_and_no_layer_group(tmp_path: Path):
    folder = make_study(tmp_path / "study", finished=False)
    header = json.loads((folder / "study.json").read_text())
    header["recipe"]["search"]["options"] = {"lambda": {"low": 0.5, "high": 1.5}}
    header["genes"].append("options.lambda.whole")
    (folder / "study.json").write_text(json.dumps(header))
    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"genome": [*row["genome"], 0.25]}) + "\n" for row in rows]
    (folder / "trials.jsonl").write_text("".join(lines))
    data = read_study(folder)
    assert data.groups() == ["embeddings", "layers 0-1", "layers 2-3", "head"]
    assert data.genes[-1].of_option
    assert data.gene_means()[-1] == pytest.approx([0.75] * len(data.gene_means()[-1]))
    write_report(folder)
    assert "range of options.lambda</dt><dd>0.5 to 1.5" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_winners_parameters_stand_by_source_and_group(study: Path):
    data = read_study(study)
    assert data.winner is not None
    assert data.groups() == ["embeddings", "layers 0-1", "layers 2-3", "head"]
    weights = data.parameter(data.winner, "weight")
    own = data.winner.of("ja").weight
    assert isinstance(own, dict)
    assert weights[1] == [own[group] for group in data.groups()]


def test_a_study_in_its_search_has_no_result(tmp_path: Path):
    data = read_study(make_study(tmp_path / "mid", trials=10, finished=False))
    assert data.result is None
    assert len(data.trials) == 10


def test_a_folder_that_is_no_study_is_told(tmp_path: Path):
    with pytest.raises(StudyError, match="not a study folder"):
        read_study(tmp_path)


def test_a_damaged_result_is_left_out_with_its_name(study: Path):
    (study / "result.json").write_text(json.dumps({"held_out": {}}))
    data = read_study(study)
    assert data.result is None
    assert [note for note in data.notes if "result.json: damaged (held_out.evolved" in note]


def test_genes_of_no_source_are_left_out(study: Path):
    header = json.loads((study / "study.json").read_text(encoding="utf-8"))
    (study / "study.json").write_text(json.dumps(header | {"genes": ["nobody.weight.head"]}))
    data = read_study(study)
    assert data.genes == ()
    assert "nobody" in data.notes[0]
