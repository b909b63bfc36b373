"""Looks: levels against published tables and a second way to compute them, and what a p over looks must keep to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from harness.analysis.looks import Looks
from harness.analysis.spending import nominal_levels
from harness.errors import HarnessError

LAN_DEMETS = {
    "O'Brien-Fleming": (
        (lambda t: 4 * special.ndtr(special.ndtri(0.0125) / np.sqrt(t))),
        (4.877, 3.357, 2.680, 2.290, 2.031),
    ),
    "Pocock": ((lambda t: 0.05 * np.log(1 + (math.e - 1) * t)), (2.438, 2.427, 2.410, 2.397, 2.386)),
}


@pytest.mark.parametrize("kind", LAN_DEMETS)
def test_the_bounds_of_five_looks_are_the_published_ones(kind):
    """The two spending functions of Lan and DeMets (1983) at 5 %, two-sided."""
    spending, bounds = LAN_DEMETS[kind]
    levels = nominal_levels(range(1, 6), spending(np.arange(1, 6) / 5)[:, None])
    assert -special.ndtri(levels[:, 0] / 2) == pytest.approx(bounds, abs=6e-4)


def test_one_look_is_the_test_of_a_fixed_number_of_seeds():
    rule, p = Looks(5, 5), np.array([1e-12, 0.01, 0.0499, 0.7, 1.0])
    assert (rule.p(5, p, 6) == p).all() and (rule.one_sided_p(5, p, 6) == p).all()
    assert rule.nominal(5, 0.05, 6) == 0.05


@pytest.mark.parametrize(("first", "most"), [(1, 8), (5, 3), (3, 65), (0, 0)])
def test_a_rule_that_makes_no_sense_is_refused(first, most):
    with pytest.raises(HarnessError, match="first <= most"):
        Looks(first, most)
