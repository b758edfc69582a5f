"""A profile is medians by phase, beside the floors that are known; rates are those of this machine."""

import pytest
import torch

from evovlm.evolution._profile import profile_of
from evovlm.merging.live.choose import Keeping, refuse_cpu
from evovlm.study.log import Trial
from evovlm.study.result import Phase
from evovlm.system.errors import RecipeError
from evovlm.system.roofline import Rates, measure_rates

RATES = Rates("cpu", copy=1e9, matrix=1e12, dtype="float32", upload=None)


def trial(number: int, **seconds: float) -> Trial:
    return Trial(
        trial=number,
        generation=0,
        genome=(0.5,),
        digest="",
        score=1.0,
        spread=0.0,
        exact=0.0,
        seconds=seconds,
        error=None,
    )


def test_the_first_trial_sets_up_and_is_left_out():
    trials = [
        trial(0, merge=9.0, answer=9.0),
        trial(1, merge=1.0, answer=4.0),
        trial(2, merge=3.0, answer=6.0),
        trial(3),
    ]
    profile = profile_of(trials, RATES, {"merge": 0.5})
    assert profile.trials == 2
    assert profile.phases["merge"] == Phase(seconds=2.0, floor=0.5, ratio=4.0)
    assert profile.phases["answer"] == Phase(seconds=5.0, floor=None, ratio=None)
    assert profile.rates.copied == 1e9


def test_rates_are_measured_here():
    rates = measure_rates(torch.device("cpu"))
    assert 1e8 < rates.copy < 1e12
    assert 1e8 < rates.matrix < 1e14
    assert rates.upload is None


def test_a_cpu_keeps_sources_mapped():
    refuse_cpu(Keeping(), "cpu")
    refuse_cpu(Keeping("disk"), "cpu")
    refuse_cpu(Keeping("host", eight_bit=True), "cuda:0")
    with pytest.raises(RecipeError, match="--device cuda"):
        refuse_cpu(Keeping(eight_bit=True), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_rates_are_those_of_the_gpu_that_is_named():
    first, second = (measure_rates(torch.device("cuda", index)) for index in (0, 1))
    for one, other in ((first.copy, second.copy), (first.matrix, second.matrix)):
        assert 0.5 < one / other < 2
