"""Does the synchrotron scan look hard for the reasons a real one does? Aims of the specimen, and the measures."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from alsiseg.phantom import imaging, microstructure, realism
from alsiseg.phantom.materials import Variant
from alsiseg.phantom.microstructure import Microstructure
from alsiseg.phases import Phase


def layers(shape=(24, 40, 60)):
    """Matrix, then silicon, matrix, and aluminide in thick layers along x."""
    variants = np.full(shape, Variant.AL, dtype=np.uint8)
    variants[..., 15:25], variants[..., 40:50] = Variant.SI, Variant.AL7CU4NI
    labels = np.select([variants == Variant.SI, variants > Variant.SI], [Phase.SILICON, Phase.ALUMINIDE], Phase.MATRIX)
    return Microstructure.sharp(labels.astype(np.uint8), variants, 1.2)


def grey_of(specimen, level, noise=1.0):
    random = np.random.default_rng(0)
    return np.array(level, dtype=float)[specimen.labels_zyx] + random.normal(0, noise, specimen.labels_zyx.shape)


def test_contrast_is_counted_in_standard_deviations_of_the_matrix():
    specimen = layers()
    found = realism.measure(grey_of(specimen, (100, 97, 150), noise=2.0), specimen)
    assert found.silicon_cnr == pytest.approx(-1.5, abs=0.05)
    assert found.silicon_edge_cnr == pytest.approx(-1.5, abs=0.1)
    assert found.aluminide_cnr == {"AL7CU4NI": pytest.approx(25, abs=1)}
    assert found.rim_cnr == pytest.approx(0, abs=0.1)


def test_a_dark_rim_as_grey_as_silicon_overlaps_it():
    specimen = layers()
    grey = grey_of(specimen, (100, 90, 150))
    assert realism.measure(grey, specimen).rim_overlap < 0.05
    grey[..., [39, 50]] -= 10
    found = realism.measure(grey, specimen)
    assert found.rim_overlap > 0.9
    assert found.rim_cnr == pytest.approx(-10, abs=0.5)


def test_equal_distributions_overlap_wholly_and_distant_ones_not_at_all():
    values = np.random.default_rng(1).normal(size=1000)
    assert realism.overlap(values, values) == pytest.approx(1)
    assert realism.overlap(values, values + 100) == 0
    assert realism.overlap(values, values[:0]) == 0


def test_a_ring_is_measured_and_its_absence_too():
    specimen = Microstructure.sharp(*(np.zeros((16, 64, 64), dtype=np.uint8),) * 2, 1.2)
    noise = np.random.default_rng(2).normal(0, 1, (16, 64, 64))
    y, x = np.mgrid[:64, :64] - 31.5
    ring = np.where(np.hypot(y, x).round() == 20, 5.0, 0.0)
    assert realism.measure(noise, specimen).ring_strength < 0.6
    strength = realism.measure(noise + ring, specimen).ring_strength
    assert strength == pytest.approx(5 / (noise + ring).std(), abs=0.4)


def test_white_noise_is_flat_and_smoothed_noise_falls():
    random = np.random.default_rng(3)
    first, second = random.normal(0, 2, (2, 64, 64, 64))
    frequency, power = realism.noise_power_spectrum(first, second)
    assert power.mean() == pytest.approx(4, rel=0.05)
    assert np.ptp(power[2:]) < 0.1 * power.mean()
    _, smooth = realism.noise_power_spectrum(*(gaussian_filter(one, (0, 1, 1)) for one in (first, second)))
    assert smooth[-1] < 0.01 * smooth[0]
    assert realism.ramp_likeness(frequency, frequency) == pytest.approx(1)


def test_the_groups_of_grey_values_share_out_the_voxels():
    specimen = layers()
    groups = realism.grey_groups(grey_of(specimen, (100, 90, 150)), specimen)
    assert sum(len(values) for values in groups.values()) == specimen.labels_zyx.size
    assert groups["silicon"].mean() == pytest.approx(90, abs=0.1)
    assert len(groups["matrix beside aluminides"]) == 2 * 24 * 40


def test_a_check_says_whether_its_aim_is_met():
    low, high, unknown = (realism.Check("noise", value, "below", 0.5) for value in (0.4, 0.6, float("nan")))
    assert (low.met, high.met, unknown.met) == (True, False, False)
    first, second = realism.table([low, high]).splitlines()
    assert first.split() == ["noise", "0.400", "below", "0.5", "met"]
    assert second.endswith("NOT met")


def test_a_scan_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="specimen's shape"):
        realism.measure(np.zeros((4, 4, 4)), layers())


# --- the specimen's own aims, at both difficulties


@pytest.fixture(scope="module")
def specimen():
    return microstructure.grow((64, 112, 112), specimen="slow", seed=3).slices(slice(12, 52))


@pytest.fixture(scope="module", params=["clean", "hard"])
def settings(request):
    return replace(imaging.DIFFICULTIES[request.param]["synchrotron"], n_angles=300)


@pytest.fixture(scope="module")
def found(specimen, settings):
    return realism.measure(imaging.scan(specimen, "synchrotron", settings, seed=3), specimen)


def test_silicon_is_as_grey_as_the_matrix_inside_and_darker_at_its_edges(found):
    assert abs(found.silicon_cnr) < 0.5
    assert found.silicon_edge_cnr < -0.5


def test_aluminides_of_copper_and_nickel_stand_out(found):
    assert all(found.aluminide_cnr[name] > 3 for name in ("AL7CU4NI", "AL3NI") if name in found.aluminide_cnr)
    assert max(found.aluminide_cnr.values()) > 3


def test_the_rim_of_aluminides_can_be_taken_for_silicon(found):
    assert found.rim_cnr < 0
    assert found.rim_overlap > 0.5


def test_bad_columns_leave_visible_rings(specimen, settings, found):
    flawless = replace(settings, n_bad_columns=0, flat_field_error=0.0)
    without = realism.measure(imaging.scan(specimen, "synchrotron", flawless, seed=3), specimen)
    assert found.ring_strength > 1.5 * without.ring_strength


def test_the_noise_is_that_of_the_ramp_filter(specimen, settings):
    flawless = replace(settings, n_bad_columns=0, flat_field_error=0.0)
    scans = [imaging.scan(specimen, "synchrotron", flawless, seed=seed) for seed in (1, 2)]
    frequency, power = realism.noise_power_spectrum(*scans)
    assert realism.ramp_likeness(frequency, power) > 0.95
    assert power[0] < 0.25 * power.max()
