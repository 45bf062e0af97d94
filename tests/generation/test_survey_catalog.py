"""Sources of a survey's catalogue."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.generation import read_survey_sources, resolved_by_flux


def make_catalog(**columns):
    """Three sources, the second one resolved."""
    table = {
        "Source_Name": ["a", "b", "c"],
        "RA": [10.0, 20.0, 30.0] * u.deg,
        "DEC": [1.0, 2.0, 3.0] * u.deg,
        "Total_flux": [10.0, 40.0, 10.0] * u.mJy,
        "E_Total_flux": [0.1, 0.4, 0.1] * u.mJy,
        "Peak_flux": [10.0, 10.0, 9.0] * u.mJy / u.beam,
        **columns,
    }
    return QTable({name: column for name, column in table.items() if column is not None})


def test_resolved_sources():
    sources = read_survey_sources(make_catalog())
    assert_array_equal(sources["name"], ["b"])
    assert_array_equal(sources["row"], [1])
    assert_allclose(sources["position"].ra.deg, 20)
    assert len(read_survey_sources(make_catalog(), resolved=False)) == 3


def test_column_of_resolved_sources_goes_first():
    catalog = make_catalog(Resolved=[True, False, False])
    assert_array_equal(read_survey_sources(catalog)["name"], ["a"])


def test_fluxes_of_other_units():
    catalog = make_catalog(Peak_flux=[0.01, 0.01, 0.009] * u.Jy / u.beam)
    assert_array_equal(read_survey_sources(catalog)["name"], ["b"])
    plain = make_catalog(
        Total_flux=[10.0, 40, 10], E_Total_flux=[0.1, 0.4, 0.1], Peak_flux=[10.0, 10, 9]
    )
    assert_array_equal(read_survey_sources(plain)["name"], ["b"])


def test_envelope():
    # Of a bright source 42 per cent, of a faint one exp(1.5).
    assert_array_equal(resolved_by_flux([1.51, 1.53], [1e-4, 1e-4], [1, 1]), [False, True])
    assert_array_equal(resolved_by_flux([4.4, 4.6], [1e3, 1e3], [1, 1]), [False, True])
    assert_array_equal(resolved_by_flux([np.nan, -1], [1, 1], [1, 1]), [False, False])
    lower = resolved_by_flux([1.05, 1.2], 1e-4, 1, envelope=(0.1, 1.08, 96.57, 2.49))
    assert_array_equal(lower, [False, True])


def test_optical_position():
    catalog = make_catalog(
        ID_RA=MaskedColumn([10.5, 20.5, np.nan], mask=[True, False, False]),
        ID_DEC=MaskedColumn([1.5, 2.5, 3.5], mask=[True, False, False]),
    )
    sources = read_survey_sources(catalog, resolved=False)
    assert_array_equal(sources["is_optical"], [False, True, False])
    assert_allclose(sources["position"].ra.deg, [10, 20.5, 30])
    assert_allclose(sources["position"].dec.deg, [1, 2.5, 3])


def test_other_names_and_units():
    catalog = Table({"alpha": [0.5] * u.rad, "delta": [0.25]})
    sources = read_survey_sources(catalog, columns={"ra": "alpha", "dec": "delta"}, resolved=False)
    assert_allclose(sources["position"].ra.rad, 0.5)
    assert_allclose(sources["position"].dec.deg, 0.25)


def test_file(tmp_path):
    path = tmp_path / "catalog.fits"
    make_catalog().write(path)
    assert_array_equal(read_survey_sources(path)["name"], ["b"])


def test_missing_words_are_empty():
    words = MaskedColumn(["x", "y", "z"], mask=[True, False, True])
    sources = read_survey_sources(make_catalog(Mosaic_ID=words), resolved=False)
    assert_array_equal(sources["mosaic"], ["", "y", ""])


def test_optical_position_that_stands_for_none():
    catalog = make_catalog(ID_RA=[-99.0, 20.5, 30.5], ID_DEC=[-99.0, 2.5, 95.0])
    sources = read_survey_sources(catalog, resolved=False)
    assert_array_equal(sources["is_optical"], [False, True, False])
    assert_allclose(sources["position"].dec.deg, [1, 2.5, 3])


def test_resolved_as_numbers():
    catalog = make_catalog(Resolved=[0.0, 1.0, np.nan])
    assert_array_equal(read_survey_sources(catalog)["name"], ["b"])


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"RA": None, "DEC": None}, {}, "Source_Name, Total_flux.*ra and dec are missing"),
        ({"DEC": None}, {}, "dec are missing, usually DEC"),
        ({"Peak_flux": None}, {}, "expected resolved, or total_flux"),
        ({}, {"columns": {"ra": "alpha"}}, "columns says ra is 'alpha'"),
        ({}, {"columns": {"alpha": "RA"}}, "columns has alpha; expected keys out of name, ra"),
        ({"DEC": [1, 95, 3] * u.deg}, {}, "rows 1 have no position in RA, DEC"),
        ({"Resolved": ["True", "False", "False"]}, {}, "Resolved holds .*expected bool"),
        ({"Total_flux": [10.0, 40, 10]}, {}, "Total_flux in None, .*expected a unit for all"),
        ({"RA": ["1h", "2h", "3h"]}, {}, "RA holds .*; expected numbers"),
        ({"ID_RA": [1.0, 2, 3]}, {}, "optical_ra is ID_RA, but its other coordinate is missing"),
        ({"RA": [np.nan, 1, 3] * u.deg}, {}, "rows 0 have no position"),
    ],
)
def test_refused(columns, options, message):
    with pytest.raises(ValueError, match=message):
        read_survey_sources(make_catalog(**columns), **options)
