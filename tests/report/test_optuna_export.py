"""A log opened with Optuna itself."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evovlm.recipe.schema import Recipe
from evovlm.search import SearchSettings, make_searcher
from evovlm.search.space.parameters import genes_of
from evovlm.study.sequential import run_sequential
from evovlm.study.study import Study
from evovlm.system.errors import StudyError

optuna = pytest.importorskip("optuna", reason="the extra evovlm[optuna] is not installed")

RECIPE = Recipe.model_validate(
    {
        "kind": "llm",
        "base": {"model": "org/base"},
        "sources": [{"name": "ja", "model": "org/ja"}, {"name": "math", "model": "org/math"}],
        "method": "dare_ties",
        "search": {},
    }
)


def judge(recipe: Recipe) -> Any:
    weight = recipe.of("ja").weight
    assert isinstance(weight, float)
    score = math.nan if weight > 0.6 else weight
    return SimpleNamespace(
        score=score, spread=1.0, exact_share=0.5, seconds={"merge": 1.0}, values=(), scores=(1.0,), answers=("a",)
    )


def test_a_log_is_the_same_study_in_optuna(tmp_path: Path):
    from evovlm.report.optuna_export import export_optuna

    genes = genes_of(RECIPE, 4)
    header = {
        "recipe": RECIPE.model_dump(mode="json", by_alias=True),
        "genes": [gene.name for gene in genes],
        "search": {},
        "items": {"ids": ["one"]},
        "versions": {},
    }
    study = Study.open(tmp_path / "s", RECIPE, genes, header)
    searcher = make_searcher("cmaes", SearchSettings(len(genes), None, 0.5, 1 / 6, 0))
    run_sequential(study, searcher, judge, 20, lambda trial: None)
    study.add(9, study.trials[-1].genome, judge(study.candidate(study.best().genome)), cheap=0.4, promoted=False)
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    assert export_optuna(tmp_path / "s", storage, "ours") == 21
    found = optuna.load_study(study_name="ours", storage=storage)
    assert [tuple(trial.params.values()) for trial in found.trials] == [trial.genome for trial in study.trials]
    assert found.best_trial.user_attrs["digest"] == study.best().digest
    assert found.best_value == study.best().score
    failed = [trial for trial in found.trials if trial.state == optuna.trial.TrialState.FAIL]
    assert len(failed) == sum(trial.score is None for trial in study.trials) > 0
    assert found.trials[-1].state == optuna.trial.TrialState.PRUNED, "asked with less effort alone"
    assert found.trials[-1].intermediate_values == {0: study.best().score}
    assert failed[0].user_attrs["error"] == "FloatingPointError: the score is nan"
    with pytest.raises(StudyError, match="already has a study"):
        export_optuna(tmp_path / "s", storage, "ours")


SECRET = "5tr0ng"


def small_study(folder: Path) -> Path:
    """A study of one trial."""
    genes = genes_of(RECIPE, 4)
    header = {"recipe": RECIPE.model_dump(mode="json", by_alias=True), "genes": [gene.name for gene in genes]}
    study = Study.open(folder, RECIPE, genes, header | {"search": {}, "items": {"ids": ["one"]}, "versions": {}})
    run_sequential(study, make_searcher("cmaes", SearchSettings(len(genes), None, 0.5, 1 / 6, 0)), judge, 1, print)
    return folder


@pytest.mark.parametrize(
    "storage",
    [
        *("nonsense", "sqlite:////proc/x.db", "sqlite:///text", "redis://127.0.0.1:1/x", "x://"),
        *(f"mysql://u:{SECRET}@h/x", f"mysql://u:{SECRET}/@h@h/x", f"mysql://h/x?password={SECRET}"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
):
    from evovlm.report.optuna_export import export_optuna

    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no database" * 100, encoding="utf-8")
    with pytest.raises(StudyError, match=r"^--storage .*: cannot be used \(") as refused:
        export_optuna(small_study(tmp_path / "s"), storage, "ours")
    assert SECRET not in str(refused.value)


def test_a_trial_that_the_database_refuses_leaves_no_part_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from evovlm.report import optuna_export

    storage = f"sqlite:///{tmp_path / 'o.db'}"
    refuse = optuna.exceptions.StorageInternalError("disk full")
    monkeypatch.setattr(optuna_export, "_as_optuna", lambda *_: (_ for _ in ()).throw(refuse))
    with pytest.raises(StudyError, match="disk full"):
        optuna_export.export_optuna(small_study(tmp_path / "s"), storage, "ours")
    assert optuna.study.get_all_study_names(storage) == []
