"""Particles one by one: sizes, surfaces and contacts known by hand."""

import numpy as np
import pytest

from alsiseg import metrics
from alsiseg.metrics import particles as room
from alsiseg.phases import Phase


def ball(radius, shape=(40, 40, 40), centre=(19.6, 20.3, 20.1)):
    z, y, x = np.ogrid[tuple(map(slice, shape))]
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2


def test_a_ball_has_its_volume_and_surface():
    labels_zyx = np.where(ball(12), Phase.SILICON, Phase.MATRIX).astype(np.uint8)
    found = metrics.find_particles(labels_zyx, "silicon", voxel_size_um=0.5)
    (particle,) = found.each
    assert particle.n_voxels == (found.numbers_zyx == 1).sum() == ball(12).sum()
    assert particle.volume_um3 == pytest.approx(ball(12).sum() / 8)
    assert particle.surface_um2 == pytest.approx(4 * np.pi * 6**2, rel=0.02)
    assert particle.centre_zyx == pytest.approx((19.6, 20.3, 20.1), abs=0.1)
    assert not particle.at_a_face
    assert particle.contact_share(Phase.MATRIX) == 1.0


def test_a_ball_half_in_aluminide_touches_it_with_half_its_surface():
    labels_zyx = np.full((40, 40, 40), Phase.MATRIX, np.uint8)
    labels_zyx[:20] = Phase.ALUMINIDE
    labels_zyx[ball(12, centre=(19.5, 20, 20))] = Phase.SILICON
    (particle,) = metrics.find_particles(labels_zyx, "silicon").each
    assert particle.contact_share(Phase.ALUMINIDE) == pytest.approx(0.5, abs=0.001)
    assert particle.volume_um3 is None


def test_the_largest_particle_comes_first_and_small_ones_can_be_left_out():
    labels_zyx = np.zeros((12, 12, 12), np.uint8)
    labels_zyx[1, 1, 1] = Phase.SILICON
    labels_zyx[4:7, 4:7, 4:7] = Phase.SILICON
    labels_zyx[9:, 9:, 9:11] = Phase.SILICON
    found = metrics.find_particles(labels_zyx, "silicon")
    assert [particle.n_voxels for particle in found.each] == [27, 18, 1]
    assert [particle.at_a_face for particle in found.each] == [False, True, False]
    assert found.numbers_zyx[1, 1, 1] == 3
    fewer = metrics.find_particles(labels_zyx, "silicon", min_voxels=2)
    assert (len(fewer.each), fewer.numbers_zyx[1, 1, 1]) == (2, 0)


@pytest.mark.parametrize("network", ["silicon", "aluminides", "hybrid"])
def test_the_particles_together_have_the_interfaces_of_the_network(network):
    rng = np.random.default_rng(1)
    labels_zyx = rng.integers(0, 3, (9, 12, 14)).astype(np.uint8)
    padded_zyx = np.pad(labels_zyx, 24)  # so that no face hides a neighbour
    found = metrics.find_particles(padded_zyx, network)
    total = {phase: sum(one.surface_voxels[phase] for one in found.each) for phase in found.each[0].surface_voxels}
    per_mm = metrics.interface_areas_per_mm(padded_zyx, voxel_size_um=1.0)
    wanted = {
        "silicon": {Phase.MATRIX: "silicon-matrix", Phase.ALUMINIDE: "silicon-aluminides"},
        "aluminides": {Phase.MATRIX: "aluminides-matrix", Phase.SILICON: "silicon-aluminides"},
    }
    if network == "hybrid":
        assert total[Phase.MATRIX] > 0
        return
    for phase, name in wanted[network].items():
        # The formula counts per pair inside the volume, of which there are fewer along diagonals.
        assert total[phase] == pytest.approx(per_mm[name] / 1000 * padded_zyx.size, rel=0.05)


def test_slabs_do_not_matter(monkeypatch):
    labels_zyx = np.random.default_rng(2).integers(0, 3, (20, 9, 8)).astype(np.uint8)
    whole = metrics.find_particles(labels_zyx, "silicon", connectivity=6)
    monkeypatch.setattr(room, "SLAB_SLICES", 3)
    cut = metrics.find_particles(labels_zyx, "silicon", connectivity=6)
    for one, other in zip(whole.each, cut.each, strict=True):
        assert one.surface_voxels == pytest.approx(other.surface_voxels)


def test_the_work_can_be_followed_and_stopped():
    shares = []
    metrics.find_particles(np.ones((40, 5, 5), np.uint8), "silicon", on_share=shares.append)
    assert shares == sorted(shares)
    assert (shares[0], len(shares)) == (0.0, 5)

    def stop(share):
        raise InterruptedError("stopped")

    with pytest.raises(InterruptedError):
        metrics.find_particles(np.ones((4, 5, 5), np.uint8), "silicon", on_share=stop)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "matrix"}, "silicon, aluminides, hybrid"),
        ({"network": "silicon", "min_voxels": 0}, "1 .keep all. or more"),
        ({"network": "silicon", "voxel_size_um": -1.0}, "voxel"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.find_particles(np.zeros((3, 3, 3), np.uint8), **options)


def test_a_network_without_a_voxel_has_no_particles():
    found = metrics.find_particles(np.zeros((3, 3, 3), np.uint8), "hybrid")
    assert (found.each, found.numbers_zyx.max()) == ([], 0)
