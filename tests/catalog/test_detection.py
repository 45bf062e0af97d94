import numpy as np
import pytest

from diffsky.catalog import (
    detect_sources,
    drozdova2024_detect,
    drozdova2024_threshold,
    empty_detections,
)

THRESHOLD = 0.1


def flux_of_peak(peak, major, minor):
    return peak * np.pi * major * minor / (4 * np.log(2))


@pytest.mark.parametrize("ratio", [5, 20, 100])
@pytest.mark.parametrize("fwhm", [1.7, 3.0, 5.0, 9.0])
def test_isolated_source(plane, fwhm, ratio):
    rng = np.random.default_rng(3)
    for _ in range(5):
        x, y = 32 + rng.uniform(-0.5, 0.5, 2)
        flux = flux_of_peak(ratio * THRESHOLD, fwhm, fwhm)
        found = detect_sources(plane((64, 64), [(x, y, flux, fwhm, fwhm, 0)]), threshold=THRESHOLD)
        assert len(found) == 1
        assert found["flux"][0] == pytest.approx(flux, rel=0.02)
        assert found["x"][0] == pytest.approx(x, abs=0.02)
        assert found["y"][0] == pytest.approx(y, abs=0.02)
        assert found["major"][0] == pytest.approx(fwhm, rel=0.05)
        assert not found["deblended"][0]
        assert not found["edge"][0]


def test_residual_background_costs_little(plane):
    flux = flux_of_peak(0.5, 1.7, 1.7)
    image = plane((64, 64), [(32.3, 31.8, flux, 1.7, 1.7, 0)]) + 5e-4
    found = detect_sources(image, threshold=THRESHOLD)
    assert found["flux"][0] == pytest.approx(flux, rel=0.02)


@pytest.mark.parametrize("angle", [0, 35, 90, 150, 179])
def test_shape(plane, angle):
    found = detect_sources(plane((64, 64), [(31.6, 32.2, 50, 8, 4, angle)]), threshold=0.01)
    assert found["major"][0] == pytest.approx(8, rel=0.03)
    assert found["minor"][0] == pytest.approx(4, rel=0.03)
    assert (found["pa"][0] - angle + 90) % 180 - 90 == pytest.approx(0, abs=1)
    assert 0 <= found["pa"][0] < 180


@pytest.mark.parametrize("ratio", [1, 2, 5])
def test_pair_of_points_one_beam_apart(plane, ratio):
    rng = np.random.default_rng(5)
    for angle in rng.uniform(0, 2 * np.pi, 8):
        x, y = 20 + rng.uniform(-0.5, 0.5, 2)
        x2, y2 = x + 4.25 * np.cos(angle), y + 4.25 * np.sin(angle)
        faint = flux_of_peak(5 * THRESHOLD, 1.7, 1.7)
        pair = [(x, y, ratio * faint, 1.7, 1.7, 0), (x2, y2, faint, 1.7, 1.7, 0)]
        found = detect_sources(plane((40, 40), pair), threshold=THRESHOLD)
        found.sort("flux", reverse=True)
        assert len(found) == 2
        assert np.sum(found["flux"]) == pytest.approx((1 + ratio) * faint, rel=0.02)
        if ratio > 1:
            assert found["x"][0] == pytest.approx(x, abs=0.1)
            assert found["y"][1] == pytest.approx(y2, abs=0.2)


def test_deblending_says_so_and_can_be_left_out(plane):
    sources = [(20, 20, 10, 3, 3, 0), (24.5, 20, 10, 3, 3, 0), (50, 50, 10, 3, 3, 0)]
    image = plane((64, 64), sources)
    found = detect_sources(image, threshold=0.01)
    assert len(found) == 3
    assert list(found["deblended"][np.argsort(found["x"])]) == [True, True, False]
    joined = detect_sources(image, threshold=0.01, deblend=False)
    assert len(joined) == 2
    assert joined["flux"].max() == pytest.approx(20, rel=0.02)
    assert len(detect_sources(image, threshold=0.01, contrast=0.9)) == 2


def test_total_flux_is_conserved(plane):
    rng = np.random.default_rng(2)
    grid = [(x, y) for x in (20, 50, 80, 110) for y in (20, 50, 80, 110)]
    sources = [(x, y, rng.uniform(2, 50), w := rng.uniform(1.7, 6), w, 0) for x, y in grid]
    found = detect_sources(plane((130, 130), sources), threshold=0.01)
    assert len(found) == 16
    assert np.sum(found["flux"]) == pytest.approx(sum(s[2] for s in sources), rel=0.005)
    assert (np.diff(found["peak"]) <= 0).all()


@pytest.mark.parametrize("image", [np.zeros((32, 32)), np.full((32, 32), 0.05), np.eye(32)[:2]])
def test_nothing_found_is_a_typed_empty_table(image):
    found = detect_sources(image, threshold=0.5 if image.max() > 0.1 else THRESHOLD)
    empty = empty_detections()
    assert len(found) == 0
    assert found.colnames == empty.colnames
    assert [found[n].dtype for n in found.colnames] == [empty[n].dtype for n in empty.colnames]
    assert found["deblended"].dtype == bool


def test_full_and_empty_tables_have_one_schema(plane):
    full = detect_sources(plane((32, 32), [(16, 16, 9, 3, 3, 0)]), threshold=THRESHOLD)
    empty = empty_detections()
    assert full.colnames == empty.colnames
    for name in full.colnames:
        assert full[name].dtype == empty[name].dtype
        assert full[name].description == empty[name].description


def test_n_pixels():
    image = np.zeros((20, 20))
    image[5, 5:8] = 1
    image[12:14, 12:15] = 1
    found = detect_sources(image, threshold=0.5, n_pixels=4, grow=0)
    assert list(found["area"]) == [6]
    assert len(detect_sources(image, threshold=0.5, n_pixels=3, grow=0)) == 2


def test_growth_counts_the_wings_and_stops_at_neighbours(plane):
    image = plane((64, 64), [(32, 32, flux_of_peak(0.5, 5, 5), 5, 5, 0)])
    bare = detect_sources(image, threshold=THRESHOLD, grow=0)
    grown = detect_sources(image, threshold=THRESHOLD)
    assert bare["flux"][0] == pytest.approx(image[image > THRESHOLD].sum())
    assert bare["flux"][0] < 0.85 * image.sum()
    assert grown["flux"][0] == pytest.approx(image.sum(), rel=0.02)
    # The area is that above the threshold in both.
    assert bare["area"][0] == grown["area"][0] == (image > THRESHOLD).sum()


def test_threshold_map_and_mask(plane):
    image = plane((64, 64), [(16, 32, 10, 3, 3, 0), (48, 32, 10, 3, 3, 0)])
    threshold = np.full(image.shape, THRESHOLD)
    threshold[:, :32] = 10
    assert detect_sources(image, threshold=threshold)["x"] == pytest.approx([48], abs=0.01)
    mask = np.zeros(image.shape, dtype=bool)
    mask[:, 32:] = True
    assert detect_sources(image, threshold=THRESHOLD, mask=mask)["x"] == pytest.approx(
        [16], abs=0.01
    )
    image[:, 32:] = np.nan
    assert detect_sources(image, threshold=THRESHOLD)["x"] == pytest.approx([16], abs=0.01)
    assert len(detect_sources(np.full((9, 9), np.nan), threshold=1.0)) == 0


def test_edge_of_image_and_mask(plane):
    sources = [(1, 30, 10, 3, 3, 0), (30, 30, 10, 3, 3, 0), (47, 30, 10, 3, 3, 0)]
    image = plane((60, 60), sources)
    image[:, 48:] = np.nan
    found = detect_sources(image, threshold=THRESHOLD)
    assert list(found["edge"][np.argsort(found["x"])]) == [True, False, True]


def test_masked_array_and_integers():
    image = np.zeros((20, 20), dtype=int)
    image[4:8, 4:8] = image[12:16, 12:16] = 5
    masked = np.ma.masked_array(image, mask=np.zeros((20, 20), dtype=bool))
    masked.mask[12:16, 12:16] = True
    assert len(detect_sources(image, threshold=1)) == 2
    assert len(detect_sources(masked, threshold=1)) == 1


def test_smoothing_joins_noisy_pixels(plane):
    rng = np.random.default_rng(1)
    image = plane((64, 64), [(32, 32, 60, 6, 6, 0)]) + rng.normal(0, 0.2, (64, 64))
    found = detect_sources(image, threshold=0.4, smooth_fwhm=4, deblend=False)
    assert len(found) == 1
    assert len(detect_sources(image, threshold=0.4, n_pixels=1, deblend=False)) > 5


def test_the_unit_does_not_matter(plane):
    image = plane((64, 64), [(20.2, 30.7, 10, 3, 3, 0), (24, 33, 5, 2, 2, 0)])
    one = detect_sources(image, threshold=THRESHOLD)
    jansky = detect_sources(image * 5e-5, threshold=THRESHOLD * 5e-5)
    for name in ("x", "y", "major", "minor", "pa", "area", "deblended"):
        np.testing.assert_allclose(jansky[name], one[name], rtol=1e-6)
    np.testing.assert_allclose(jansky["flux"], one["flux"] * 5e-5, rtol=1e-6)


def test_paper_preset_finds_its_sources(plane):
    sources = [(20, 20, 100, 3, 3, 0), (40, 44, 300, 5, 4, 30)]
    image = plane((64, 64), sources) + np.random.default_rng(0).normal(0, 0.003, (64, 64))
    found = drozdova2024_detect(image)
    assert sorted(np.round(found["x"])) == [20, 40]
    assert np.sort(found["flux"]) == pytest.approx([100, 300], rel=0.1)


def test_paper_threshold():
    image = np.random.default_rng(0).normal(0, 1, (200, 200))
    # A Gaussian clipped at 2 sigma until nothing changes keeps about 0.77 of its scatter.
    assert 60 < drozdova2024_threshold(image) < 120
    assert drozdova2024_threshold(image, n_sigma=60) == drozdova2024_threshold(image) / 2
    assert drozdova2024_threshold(np.ones((8, 8))) == 0
    assert drozdova2024_threshold(np.full((8, 8), np.nan)) == 0


def test_paper_preset_on_published_skies(data_dir):
    n_sources = [1, 3, 3, 5]
    for k, n in enumerate(n_sources):
        sky = np.load(data_dir / "d24" / "true" / f"{k:05d}.npy").astype(float)
        sky = sky.reshape(128, 4, 128, 4).sum(axis=(1, 3))
        found = drozdova2024_detect(sky)
        assert len(found) == n
        assert np.sum(found["flux"]) == pytest.approx(sky.sum(), rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": np.zeros(5)}, r"2-D array, got shape \(5,\)"),
        ({"image": np.zeros((0, 5))}, "2-D array"),
        ({"image": np.zeros((5, 5), dtype=complex)}, "complex"),
        ({"threshold": np.zeros((2, 2))}, r"map of shape \(8, 8\), got shape \(2, 2\)"),
        ({"threshold": -1.0}, "threshold must be >= 0"),
        ({"threshold": np.nan}, "threshold must be >= 0"),
        ({"mask": np.zeros((2, 2), dtype=bool)}, r"mask must be boolean of shape \(8, 8\)"),
        ({"mask": np.zeros((8, 8))}, "mask must be boolean .* got float64"),
        ({"n_pixels": 0}, "n_pixels must be an integer >= 1, got 0"),
        ({"n_pixels": 2.5}, "n_pixels"),
        ({"contrast": 1.5}, "contrast must be between 0 and 1, got 1.5"),
        ({"smooth_fwhm": -1}, "smooth_fwhm"),
        ({"grow": -1}, "grow"),
    ],
)
def test_refusals(options, message):
    arguments = {"image": np.zeros((8, 8)), "threshold": 1.0} | options
    with pytest.raises(ValueError, match=message):
        detect_sources(arguments.pop("image"), **arguments)
