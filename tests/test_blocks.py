"""The fit of seeds and cells against statsmodels, whole and with runs missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from harness.analysis.fit import fit


def study(seeds, cells, missing=0, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(seeds, cells)) + 3 * rng.normal(size=(seeds, 1)) + rng.normal(size=cells)
    values.flat[rng.choice(values.size, missing, replace=False)] = np.nan
    return values


def by_statsmodels(values):
    rows = [(s, c, y) for (s, c), y in np.ndenumerate(values) if np.isfinite(y)]
    return smf.ols("y ~ C(s) + C(c)", pd.DataFrame(rows, columns=["s", "c", "y"])).fit()


@pytest.mark.parametrize("missing", [0, 1, 5])
def test_differences_errors_and_degrees_of_freedom_are_those_of_least_squares(missing):
    values = study(4, 6, missing)
    model = by_statsmodels(values)
    weights = np.zeros((5, 6))
    weights[:, 0], weights[np.arange(5), np.arange(1, 6)] = -1, 1
    ours = fit(values)
    found, errors = ours.estimates(weights)
    for cell in range(1, 6):
        assert found[cell - 1] == pytest.approx(model.params[f"C(c)[T.{cell}]"], rel=1e-9)
        assert errors[cell - 1] == pytest.approx(model.bse[f"C(c)[T.{cell}]"], rel=1e-9)
    assert ours.df == model.df_resid
    assert ours.sd**2 == pytest.approx(model.mse_resid, rel=1e-9)


def test_a_seed_of_one_run_changes_nothing():
    values = study(3, 4)
    lonely = np.vstack([values, [[100.0, np.nan, np.nan, np.nan]]])
    weights = np.array([[-1.0, 0, 1, 0]])
    assert fit(lonely).estimates(weights)[0] == pytest.approx(fit(values).estimates(weights)[0])
    assert fit(lonely).df == fit(values).df


def test_what_the_runs_do_not_connect_is_not_told():
    nan = np.nan
    values = np.array([[1.0, 2.0, nan, nan], [1.5, 2.4, nan, nan], [nan, nan, 5.0, 6.0], [nan, nan, 5.0, 6.5]])
    found, _ = fit(values).estimates(np.array([[-1.0, 1, 0, 0], [-1.0, 0, 1, 0], [0, 0, -1.0, 1]]))
    assert found[[0, 2]] == pytest.approx([0.95, 1.25])
    assert np.isnan(found[1])


def test_one_seed_leaves_nothing_to_judge_by():
    one = fit(study(1, 5))
    assert (one.df, one.sd) == (0, 0.0)


def test_rounding_is_no_spread():
    exact = np.array([[0.1], [0.2], [0.3]]) + np.array([[0.0, 0.7, 1.9]])
    assert fit(exact).sd == 0.0
    assert fit(exact * 1e6).sd == 0.0


def test_no_finished_run_is_no_crash():
    empty = fit(np.full((2, 3), np.nan))
    assert empty.df == 0
    assert np.isnan(empty.estimates(np.array([[-1.0, 1, 0]]))[0]).all()


def test_what_a_cell_adds_to_the_residual_is_what_the_fit_without_it_lacks():
    values = study(5, 7)
    whole, rest = fit(values), fit(values[:, :-1])
    squares = (whole.residuals[:, -1] ** 2).sum() * 7 / 6
    assert whole.sd**2 * whole.df - squares == pytest.approx(rest.sd**2 * rest.df)


def test_even_cells_are_called_uneven_as_rarely_as_stated():
    flagged = [fit(study(3, 8, seed=seed)).uneven(0.05 / 8).any() for seed in range(2000)]
    assert 0.03 < np.mean(flagged) < 0.06
    wild = study(6, 8)
    wild[:, 2] += 20 * (-1.0) ** np.arange(6)
    assert np.flatnonzero(fit(wild).uneven(0.01 / 8)).tolist() == [2]
