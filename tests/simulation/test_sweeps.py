"""The same skies under several conditions."""

from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from small_casa import SMALL, needs_casa

from diffsky.simulation import PWV_OCTILES, GeneralPrior, SkyPrior, pwv_sweep, sweep
from diffsky.simulation._pair_series import PairSeries

PRIOR = SkyPrior(n_sources=(2, 2), flux=(0.01, 0.05), half_width=4.0)


@needs_casa
@pytest.mark.slow
def test_water_vapour_changes_the_noise_and_nothing_else(tmp_path):
    pwv = [0.472, 5.186] * u.mm
    arguments = {"seed": 1, "n": 2, "store": tmp_path, "timeout": 600}
    found = pwv_sweep(PRIOR, SMALL, pwv=pwv, **arguments)
    assert [value for value, _ in found] == list(pwv)
    (_, dry), (_, wet) = found
    assert dry.path != wet.path
    noise = {}
    for number in (0, 1):
        one, other = dry.read(number), wet.read(number)
        assert np.array_equal(one.sky.data, other.sky.data)
        assert np.array_equal(one.sources["flux"], other.sources["flux"])
        assert np.array_equal(one.psf.data, other.psf.data)
        assert (one.parameters["pwv"], other.parameters["pwv"]) == (0.472, 5.186)
        noise[number] = one.parameters["seed"], other.parameters["seed"]
        assert not np.array_equal(one.dirty.data, other.dirty.data)
    assert len({*noise[0], *noise[1]}) == 4
    # Whatever other values there are, and without making a pair again.
    again = pwv_sweep(PRIOR, SMALL, pwv=pwv[1:], **arguments)
    assert again[0][1].read(0).parameters["seed"] == noise[0][1]


def test_pwv_of_drozdova2024():
    """D24 section 4.6 goes from 0.472 to 5.186 mm."""
    assert PWV_OCTILES[0] == 0.472 * u.mm
    assert PWV_OCTILES[-1] == 5.186 * u.mm


@needs_casa
def test_skies_of_a_prior_in_rms_do_not_follow_what_is_varied():
    def task(pwv):
        series = PairSeries(
            skies=GeneralPrior(),
            setups=replace(SMALL, pwv=pwv),
            seed=1,
            n=1,
            noise="independent",
            simulator="simobserve",
            kernel_beams=0.4,
            reference=SMALL,
        )
        return series.task(0)

    one, other = task(1 * u.mm), task(2 * u.mm)
    assert one.job["pwv"] != other.job["pwv"]
    assert one.reference_job == other.reference_job


@needs_casa
@pytest.mark.parametrize(
    ("parameter", "values", "error", "message"),
    [
        ("pressure", [1, 2], ValueError, "parameter is 'pressure'; expected one of array, "),
        ("pwv", 1 * u.mm, TypeError, "expected a list of values of pwv"),
        ("weighting", "briggs", TypeError, "expected a list of values of weighting"),
        ("pwv", [1, 2], TypeError, "pwv is 1"),
        ("pwv", [1, -2] * u.mm, ValueError, "pwv is -2"),
        ("pwv", [1, 1] * u.mm, ValueError, "twice"),
        ("pwv", [] * u.mm, ValueError, "values are empty"),
        ("direction", SkyCoord([150, 150], [0, 80], unit="deg"), ValueError, "deg of elevation"),
    ],
)
def test_refused(parameter, values, error, message, tmp_path):
    with pytest.raises(error, match=message):
        sweep(PRIOR, SMALL, parameter=parameter, values=values, seed=1, n=1, store=tmp_path / "s")
    assert not (tmp_path / "s").exists()
    with pytest.raises(TypeError, match="setup is"):
        sweep(PRIOR, [SMALL], parameter="pwv", values=PWV_OCTILES, seed=1, n=1, store=tmp_path)
