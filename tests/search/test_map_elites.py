"""The archive by hand."""

import random

import pytest

from evovlm.search.map_elites import Archive, Elite


def test_a_cell_keeps_its_best_and_of_equals_the_earlier():
    archive = Archive(10)
    assert archive.add(Elite(3, 50.0, (12.0, 98.0)))
    assert not archive.add(Elite(4, 49.0, (19.9, 91.0)))
    assert not archive.add(Elite(5, 50.0, (11.0, 99.0)))
    assert archive.add(Elite(1, 50.0, (11.0, 99.0)))
    assert {cell: elite.candidate for cell, elite in archive.elites.items()} == {(1, 9): 1}


def test_the_ends_of_the_scale_lie_in_the_outer_cells():
    assert Archive(10).cell_of((0.0, 100.0)) == (0, 9)
    assert Archive(4).cell_of((24.99, 25.0)) == (0, 1)


def test_what_is_held_does_not_depend_on_the_order():
    rng = random.Random(0)
    elites = [Elite(n, float(rng.randrange(5)), (rng.random() * 100, rng.random() * 100)) for n in range(200)]
    one, other = Archive(5), Archive(5)
    for elite in elites:
        one.add(elite)
    for elite in rng.sample(elites, len(elites)):
        other.add(elite)
    assert one.elites == other.elites


def test_measures_by_hand():
    archive = Archive(2)
    archive.add(Elite(0, 40.0, (10.0, 10.0)))
    archive.add(Elite(1, 60.0, (90.0, 10.0)))
    assert archive.measures() == {"coverage": pytest.approx(0.5), "qd_score": 100.0, "best": 60.0}
    assert Archive(2).measures()["coverage"] == 0.0
