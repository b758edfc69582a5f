"""What pymoo's genetic algorithms need for genomes of bits and reals: a first generation and two operators.

Knows numbers and pymoo. Bits use uniform crossover and bit flips, reals simulated binary crossover and polynomial
mutation (Deb and Agrawal, 1995), each with pymoo's own operator.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from evovlm.search.protocol import Genome, Score, SearchSettings, losses_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pymoo.config import Config
    from pymoo.core.crossover import Crossover
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.mutation import Mutation
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.core.sampling import Sampling
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.operators.mutation.pm import PM
    from pymoo.problems.static import StaticProblem

Config.warnings["not_compiled"] = False


class FirstGeneration(Sampling):  # type: ignore[misc]
    """Draws genomes around the start."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__()
        self._settings = settings

    def _do(self, problem: Any, n_samples: int, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        return self._settings.draw(random_state, n_samples)


class MixedCrossover(Crossover):  # type: ignore[misc]
    """Uniform crossover of the bits, simulated binary crossover of the reals."""

    def __init__(self, bits: int) -> None:
        super().__init__(2, 2, prob=0.9)
        self._bits = bits
        self._swap, self._blend = UniformCrossover(), SBX()

    def _do(self, problem: Any, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        swapped = self._swap._do(problem, X[:, :, : self._bits], random_state=random_state)
        if self._bits == X.shape[2]:
            return np.asarray(swapped)
        blended = self._blend._do(_cube(X.shape[2] - self._bits), X[:, :, self._bits :], random_state=random_state)
        return np.concatenate([swapped, blended], axis=2)


class MixedMutation(Mutation):  # type: ignore[misc]
    """Flips one bit and moves one real, on average."""

    def __init__(self, bits: int, reals: int) -> None:
        super().__init__(prob=1.0)
        self._bits = bits
        self._flip = BitflipMutation(prob_var=min(0.5, 1 / max(1, bits)))
        self._move = PM(prob_var=min(0.5, 1 / max(1, reals)))

    def _do(self, problem: Any, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        flipped = self._flip._do(problem, X[:, : self._bits] > 0.5, random_state=random_state).astype(float)
        if self._bits == X.shape[1]:
            return np.asarray(flipped)
        moved = self._move._do(_cube(X.shape[1] - self._bits), X[:, self._bits :], random_state=random_state)
        return np.concatenate([flipped, moved], axis=1)


class PymooSearch:
    """Wraps one of pymoo's genetic algorithms in ask and tell, with its own random generator."""

    def __init__(self, algorithm: Any, settings: SearchSettings) -> None:
        self._settings = settings
        self._problem = Problem(n_var=settings.genes, n_obj=settings.objectives, xl=0.0, xu=1.0)
        algorithm.setup(self._problem, termination=NoTermination(), seed=settings.seed, verbose=False)
        self._algorithm = algorithm
        self._asked: Any = None
        # A few bits have only a few genomes; once all have been tried, new draws fill the generation.
        self._fresh = np.random.default_rng([settings.seed, 1])

    @property
    def asked(self) -> int:
        """The number of genomes in the last generation."""
        return len(self._asked)

    def ask(self) -> list[Genome]:
        """The next generation; avoids duplicates of the current population if other genomes can be found."""
        asked = self._algorithm.ask()
        if asked is None or len(asked) == 0:
            self._algorithm.termination.force_termination = False
            asked = Population.new("X", self._settings.draw(self._fresh, self._algorithm.pop_size))
        self._asked = asked
        return [tuple(map(float, point)) for point in asked.get("X")]

    def tell(self, genomes: Sequence[Genome], scores: Sequence[Score]) -> None:
        """Pass the scores of the last generation, higher is better; a failed candidate counts as the worst."""
        losses = losses_of(scores, self._settings.objectives)
        Evaluator().eval(StaticProblem(self._problem, F=losses), self._asked)
        self._algorithm.tell(infills=self._asked)


def _cube(reals: int) -> Any:
    return Problem(n_var=reals, n_obj=1, xl=0.0, xu=1.0)


def operators(settings: SearchSettings) -> dict[str, Any]:
    """Sampling, crossover and mutation, as arguments for an algorithm's constructor."""
    return {
        "sampling": FirstGeneration(settings),
        "crossover": MixedCrossover(settings.bits),
        "mutation": MixedMutation(settings.bits, settings.genes - settings.bits),
        "eliminate_duplicates": True,
    }
