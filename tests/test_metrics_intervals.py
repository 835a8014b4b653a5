import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alsiseg import metrics, topology
from alsiseg.metrics.blocks import cubes, halved_blocks, sums_per_block
from alsiseg.metrics.intervals import MIN_BLOCKS, Bootstrap, ratio_interval
from alsiseg.phases import NETWORKS, Phase, network_mask

MATRIX, SI, AL = Phase
FRACTION, EULER = "volume_fraction_pct", "euler_density_corrected_per_mm3"
shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=9)
label_volumes = hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2))


def random_labels(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, shape, dtype=np.uint8)


@st.composite
def cut_volumes(draw):
    labels_zyx = draw(label_volumes)
    inner = [draw(st.sets(st.integers(1, n - 2), max_size=3)) if n > 2 else set() for n in labels_zyx.shape]
    return labels_zyx, tuple(np.array([0, *sorted(i), n - 1]) for i, n in zip(inner, labels_zyx.shape, strict=True))


@given(cut_volumes(), st.sampled_from([6, 26]))
def test_the_blocks_add_up_to_the_whole_exactly(volume, connectivity):
    labels_zyx, cuts_zyx = volume
    blocks = metrics.BlockCounts.of(labels_zyx, cuts_zyx, connectivity=connectivity)
    assert blocks.block_voxels.sum() == labels_zyx.size
    assert blocks.block_boxes.sum() == math.prod(n - 1 for n in labels_zyx.shape)
    for name in NETWORKS:
        network_zyx = network_mask(labels_zyx, name)
        whole = topology.EulerCounts.of(network_zyx, connectivity=connectivity)
        assert blocks.n_voxels[name].sum() == np.count_nonzero(network_zyx)
        assert blocks.euler[name].sum() == whole.face_corrected
        assert np.array_equal(blocks.n_voxels[name], sums_per_block(network_zyx, cuts_zyx))


def test_a_block_counts_what_lies_between_its_cuts():
    labels_zyx = np.zeros((9, 9, 9), dtype=np.uint8)
    labels_zyx[2, 2, 2] = SI  # inside the first block
    labels_zyx[4, 6, 6] = SI  # on the cut between two blocks: half of it to each
    cuts = np.array([0, 4, 8])
    blocks = metrics.BlockCounts.of(labels_zyx, (cuts, cuts, cuts))
    assert blocks.euler["silicon"][:, 0, 0].tolist() == [1, 0]
    assert blocks.euler["silicon"][:, 1, 1].tolist() == [0.5, 0.5]
    assert blocks.n_voxels["silicon"][:, 1, 1].tolist() == [0, 1]
    assert blocks.block_voxels[0, 0, 0] == 4**3
    assert blocks.block_voxels[1, 1, 1] == 5**3  # with the last layers
    assert set(blocks.block_boxes.ravel()) == {4**3}


def test_blocks_do_not_depend_on_the_slabs_they_are_read_in(monkeypatch):
    labels_zyx = random_labels((21, 9, 10))
    cuts_zyx = halved_blocks(labels_zyx.shape, 8)
    whole = metrics.BlockCounts.of(labels_zyx, cuts_zyx)
    monkeypatch.setattr("alsiseg.metrics.slabs.VOXELS_AT_ONCE", 300)
    thin = metrics.BlockCounts.of(labels_zyx, cuts_zyx)
    for name in NETWORKS:
        assert np.array_equal(thin.euler[name], whole.euler[name])
        assert np.array_equal(thin.n_voxels[name], whole.n_voxels[name])


def test_joined_blocks_are_those_that_larger_cuts_would_give():
    labels_zyx = random_labels((22, 25, 33))
    small = metrics.BlockCounts.of(labels_zyx, cubes(labels_zyx.shape, 4))
    assert small.grid_zyx == (5, 6, 8)
    joined = small.joined(2)
    assert joined.grid_zyx == (2, 3, 4)
    assert [cuts.tolist() for cuts in joined.cuts_zyx] == [[0, 8, 16], [0, 8, 16, 24], [0, 8, 16, 24, 32]]
    large = metrics.BlockCounts.of(labels_zyx, cubes(labels_zyx.shape, 8))
    assert np.array_equal(joined.euler["hybrid"], large.euler["hybrid"])
    assert np.array_equal(joined.n_voxels["hybrid"][:1, :1, :1], large.n_voxels["hybrid"][:1, :1, :1])


@pytest.mark.parametrize(
    ("shape", "n_blocks", "grid"),
    [((60, 60, 60), 27, (3, 3, 3)), ((30, 60, 120), 8, (1, 2, 4)), ((9, 90, 90), 9, (1, 3, 3))],
)
def test_blocks_are_as_much_like_cubes_as_the_volume_allows(shape, n_blocks, grid):
    cuts_zyx = halved_blocks(shape, n_blocks)
    assert tuple((len(cuts) - 1) // 2 for cuts in cuts_zyx) == grid
    assert all(cuts[0] == 0 and cuts[-1] == n - 1 for cuts, n in zip(cuts_zyx, shape, strict=True))


def test_the_interval_holds_the_value_of_the_whole_volume():
    labels_zyx = random_labels((40, 40, 40))
    found = metrics.network_intervals(labels_zyx, voxel_size_um=2.0)
    measures = metrics.measure_networks(labels_zyx, voxel_size_um=2.0)
    assert list(found) == list(NETWORKS)
    for name, by_field in found.items():
        assert list(by_field) == [FRACTION, EULER]
        for field, interval in by_field.items():
            assert interval.value == pytest.approx(getattr(measures[name], field))
            assert interval.low < interval.value < interval.high
            assert (interval.level, interval.n_blocks) == (0.95, 27)
            assert interval.block_um == pytest.approx(26)
    assert [found["silicon"][field].unit for field in (FRACTION, EULER)] == ["vol.%", "1/mm3"]


def test_an_interval_prints_its_unit_and_how_it_was_made():
    interval = metrics.Interval(14.2, 13.5, 14.9, "vol.%", 0.95, 27, 60.0)
    assert str(interval) == "14.2 vol.%, 95 % interval 13.5 to 14.9 (27 blocks of 60 um)"
    without_size = metrics.network_intervals(random_labels((24, 24, 24)))["hybrid"]
    assert list(without_size) == [FRACTION]
    assert str(without_size[FRACTION]).endswith("(27 blocks)")


def test_the_same_seed_gives_the_same_interval_and_a_higher_level_a_wider_one():
    labels_zyx = random_labels((24, 24, 24))

    def silicon(**options):
        return metrics.network_intervals(labels_zyx, bootstrap=Bootstrap(**options))["silicon"][FRACTION]

    assert silicon(seed=3) == silicon(seed=3)
    assert silicon(seed=3) != silicon(seed=4)
    low, high = silicon(level=0.5), silicon(level=0.99)
    assert high.low < low.low < low.high < high.high


def test_a_volume_that_is_the_same_everywhere_is_known_exactly():
    stripes_zyx = np.zeros((25, 25, 25), dtype=np.uint8)
    stripes_zyx[:, :, ::2] = SI
    quarter = ratio_interval(np.full((6, 6, 6), 2.0), np.full((6, 6, 6), 8), FRACTION, None, Bootstrap())
    assert (quarter.low, quarter.value, quarter.high) == (0.25, 0.25, 0.25)
    nothing = metrics.network_intervals(np.zeros((24, 24, 24), dtype=np.uint8), voxel_size_um=1.0)["hybrid"]
    assert {(i.low, i.value, i.high) for i in nothing.values()} == {(0, 0, 0)}
    assert metrics.network_intervals(stripes_zyx, voxel_size_um=1.0)["silicon"][EULER].value == 0


def test_what_neighbours_share_widens_the_interval():
    random = np.random.default_rng(0)
    apart = random.normal(10, 1, (6, 6, 6))  # as much between blocks as their parts explain
    together = 10 + np.repeat(np.repeat(np.repeat(random.normal(size=(3, 3, 3)), 2, 0), 2, 1), 2, 2)

    def width(amounts):
        found = ratio_interval(amounts, np.ones((6, 6, 6)), FRACTION, None, Bootstrap())
        return found.high - found.low

    def plain_width(amounts):
        blocks = amounts.reshape(3, 2, 3, 2, 3, 2).mean(axis=(1, 3, 5))
        return 2 * 2.056 * blocks.std(ddof=1) / math.sqrt(27)  # Student's t of 26 degrees

    assert width(apart) == pytest.approx(plain_width(apart), rel=0.12)
    # Parts that are the same within a block: the variance grows 8 times, so 7/15 of it is missing.
    factor = math.sqrt((1 - 7 / 15 / 3) / (1 - 7 / 15))
    assert width(together) == pytest.approx(factor * plain_width(together), rel=0.05)


def test_the_difference_from_the_truth_is_surer_than_either():
    random = np.random.default_rng(0)
    dense = np.repeat(random.random(4) < 0.5, 16)[:, None, None]  # what varies from place to place
    truth_zyx = (random.random((64, 48, 48)) < 0.1 + 0.6 * dense).astype(np.uint8)
    labels_zyx = truth_zyx.copy()
    labels_zyx[(random.random(truth_zyx.shape) < 0.02) & (truth_zyx == 0)] = SI
    alone = metrics.network_intervals(labels_zyx)["silicon"][FRACTION]
    gap = metrics.network_intervals(labels_zyx, truth_zyx=truth_zyx)["silicon"][FRACTION]
    true_gap = 100 * (np.count_nonzero(labels_zyx) - np.count_nonzero(truth_zyx)) / truth_zyx.size
    assert gap.value == pytest.approx(true_gap)
    assert 0 < gap.low < true_gap < gap.high
    assert gap.high - gap.low < 0.2 * (alone.high - alone.low)


def test_the_interval_of_the_thickness_is_about_the_mean_over_the_voxels():
    thickness_zyx = np.zeros((24, 24, 24), dtype=np.float32)
    thickness_zyx[:, 2:4], thickness_zyx[:12, 10:13] = 2.0, 3.0
    found = metrics.thickness_interval(thickness_zyx, voxel_size_um=1.5)
    assert found.value == pytest.approx((2 * 2 + 1.5 * 3) / 3.5)
    assert 2.0 <= found.low < found.value < found.high <= 3.0
    assert (found.unit, found.n_blocks) == ("um", 27)
    same = metrics.thickness_interval(np.minimum(thickness_zyx, 2), voxel_size_um=1.5)
    assert (same.low, same.value, same.high) == (2, 2, 2)
    with pytest.raises(ValueError, match="needs a network, found none"):
        metrics.thickness_interval(np.zeros((24, 24, 24), dtype=np.float32), voxel_size_um=1.5)


def balls(seed: int, n: int, radius: float, per_voxel: float) -> np.ndarray:
    """Mark a Boolean model: balls of one radius about the points of a Poisson process, cut out of more."""
    random = np.random.default_rng(seed)
    margin = math.ceil(radius) + 1
    centres = random.uniform(-margin, n + margin, (random.poisson(per_voxel * (n + 2 * margin) ** 3), 3))
    inside_zyx = np.zeros((n + 4 * margin,) * 3, dtype=np.uint8)
    around = np.arange(-margin, margin + 1)
    for centre in centres:
        z, y, x = (np.floor(centre).astype(int)[:, None] + around).astype(int)
        z2, y2, x2 = ((axis - c) ** 2 for axis, c in zip((z, y, x), centre, strict=True))
        covered = z2[:, None, None] + y2[:, None] + x2 <= radius**2
        inside_zyx[np.ix_(z + 2 * margin, y + 2 * margin, x + 2 * margin)] |= covered
    return np.ascontiguousarray(inside_zyx[(slice(2 * margin, 2 * margin + n),) * 3])


def euler_density_of_balls(radius: float, per_voxel: float) -> float:
    """Euler number per voxel (26) of the Boolean model on the grid, exactly but for one quadrature.

    A closed cell of 1, 2, 4 or 8 voxels is empty when no centre lies within the radius of any of them:
    with probability exp(-per_voxel x volume of the union of the balls about them). Volumes by columns: along
    one axis two spans at most, which overlap, in each of 2 x 2 columns.
    """
    step = 0.01
    y, x = np.meshgrid(*2 * [np.arange(-radius, radius + 1, step) + step / 2], indexing="ij")
    empty = []
    for corners in ([(0, 0)], [(0, 0), (0, 1)], [(0, 0), (0, 1), (1, 0), (1, 1)]):
        halves = [np.sqrt(np.maximum(radius**2 - (y - j) ** 2 - (x - i) ** 2, 0)) for j, i in corners]
        half = np.maximum.reduce(halves)
        one_layer = 2 * half.sum() * step**2
        # A second voxel above each lengthens every span by one, but no more than it doubles it.
        two_layers = one_layer + np.minimum(1, 2 * half).sum() * step**2
        empty += [math.exp(-per_voxel * one_layer), math.exp(-per_voxel * two_layers)]
    voxel, edge, edge_again, face, _, cube = empty
    assert edge == pytest.approx(edge_again, rel=1e-4)
    return -(1 - voxel) + 3 * (1 - edge) - 3 * (1 - face) + (1 - cube)


def coverage(n_seeds: int, n: int, radius: float, fraction: float) -> dict[str, float]:
    """Share of the 95 % intervals that hold the known value of the model."""
    per_voxel = -math.log(1 - fraction) / (4 / 3 * math.pi * radius**3)
    true = {FRACTION: 100 * fraction, EULER: euler_density_of_balls(radius, per_voxel)}
    held = dict.fromkeys(true, 0)
    for seed in range(n_seeds):
        labels_zyx = balls(seed, n, radius, per_voxel)
        blocks = metrics.BlockCounts.of(labels_zyx, halved_blocks(labels_zyx.shape, 27))
        amounts = {FRACTION: 100 * blocks.n_voxels["silicon"], EULER: blocks.euler["silicon"]}
        sizes = {FRACTION: blocks.block_voxels, EULER: blocks.block_boxes}
        for field, value in true.items():
            found = ratio_interval(amounts[field], sizes[field], field, None, Bootstrap(seed=seed))
            held[field] += found.low <= value <= found.high
    return {field: count / n_seeds for field, count in held.items()}


def test_the_euler_density_of_balls_is_that_of_large_volumes():
    radius, per_voxel = 2.5, 0.003
    found = []
    for seed in range(6):
        counts = topology.EulerCounts.of(balls(seed, 80, radius, per_voxel).astype(bool))
        found.append(counts.face_corrected / 79**3)
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(euler_density_of_balls(radius, per_voxel), abs=4 * error)


def test_about_as_many_intervals_as_they_say_hold_the_true_value():
    # 40 intervals: their share is sure to 0.04 (one standard deviation) when it is 0.94.
    shares = coverage(40, n=30, radius=1.5, fraction=0.2)
    assert {field: 0.85 <= share <= 1 for field, share in shares.items()} == dict.fromkeys(shares, True)


@pytest.mark.slow
def test_the_share_of_intervals_that_hold_the_true_value_is_near_the_level():
    # 300 intervals: sure to 0.013 (one standard deviation). Blocks of 16 voxels are three balls wide.
    shares = coverage(300, n=48, radius=2.5, fraction=0.2)
    assert {field: 0.91 <= share <= 0.98 for field, share in shares.items()} == dict.fromkeys(shares, True)


def test_small_cubes_vary_and_large_ones_agree():
    labels_zyx = random_labels((49, 49, 49))
    curves = metrics.representative_volumes(labels_zyx, voxel_size_um=2.0, smallest_voxels=4)
    assert list(curves) == list(NETWORKS)
    curve = curves["silicon"][FRACTION]
    assert curve.edge_um.tolist() == [8, 16, 24, 32, 40, 48]
    assert curve.n_cubes.tolist() == [12**3, 6**3, 4**3, 27, 8, 8]
    assert curve.unit == "vol.%"
    # Voxels drawn one by one: binomial.
    spread = 100 * math.sqrt(1 / 3 * 2 / 3 / 4**3)
    assert curve.spread[0] == pytest.approx(spread, rel=0.1)
    assert curve.spread[2] == pytest.approx(spread / 3**1.5, rel=0.3)
    assert curve.mean == pytest.approx(100 / 3, abs=0.5)


def test_cubes_of_one_size_are_those_that_porespy_measures():
    from porespy.metrics import rev_porosity

    labels_zyx = random_labels((33, 33, 33))
    curve = metrics.representative_volumes(labels_zyx, voxel_size_um=1.0, smallest_voxels=8)["silicon"][FRACTION]
    # Without the last layer, which the last cubes keep.
    parts = [
        tuple(slice(8 * i, 8 * i + 8 + (i == 3)) for i in index) for index in itertools.product(range(4), repeat=3)
    ]
    porosity = rev_porosity(labels_zyx == SI, slices=parts).porosity
    assert curve.mean[0] == pytest.approx(100 * porosity.mean())
    assert curve.spread[0] == pytest.approx(100 * porosity.std(ddof=1))


def test_the_euler_density_of_cubes_does_not_depend_on_their_size_on_average():
    labels_zyx = random_labels((65, 65, 65))
    curve = metrics.representative_volumes(labels_zyx, voxel_size_um=1.0, smallest_voxels=4)["silicon"][EULER]
    assert curve.edge_um[:2].tolist() == [4, 8]
    whole = metrics.measure_networks(labels_zyx, voxel_size_um=1.0)["silicon"].euler_density_corrected_per_mm3
    assert curve.mean[0] == pytest.approx(whole)  # not one cell is counted twice or lost
    assert curve.mean[1] == pytest.approx(whole)


def test_the_representative_edge_is_the_first_from_which_the_spread_stays_small():
    edges, mean = np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 10.0)
    counts = np.array([64, 27, 8, 8])
    spreads = {3.0: [3, 0.1, 0.5, 0.4], 1.0: [0.4, 0.3, 0.2, 0.1], None: [3, 2, 1, 0.6]}
    spreads[3.0][1] = 2
    for edge, spread in spreads.items():
        curve = metrics.SizeCurve(edges, mean, np.array(spread), counts, "vol.%")
        assert curve.representative_edge_um() == edge
    assert metrics.SizeCurve(edges, mean, np.array(spreads[None]), counts, "vol.%").representative_edge_um(0.1) == 3.0


def test_the_columns_behind_a_figure_name_network_measure_and_kind():
    curves = metrics.representative_volumes(random_labels((33, 33, 33)), voxel_size_um=2.0, smallest_voxels=8)
    columns = metrics.size_columns(curves)
    assert columns["edge_um"].tolist() == [16, 32]
    assert columns["n_cubes"].tolist() == [64, 8]
    assert columns["hybrid volume_fraction_pct spread"] is curves["hybrid"][FRACTION].spread
    assert len(columns) == 2 + 3 * 2 * 2


def test_volumes_too_small_for_blocks_are_refused():
    with pytest.raises(ValueError, match="27 blocks need at least 4 voxels along every edge"):
        metrics.network_intervals(random_labels((10, 10, 10)))
    with pytest.raises(ValueError, match=r"got a volume of \(1, 100, 100\)"):
        metrics.network_intervals(random_labels((1, 100, 100)))
    with pytest.raises(ValueError, match=f"{MIN_BLOCKS} cubes of 16 voxels do not fit"):
        metrics.representative_volumes(random_labels((30, 30, 30)), voxel_size_um=1.2)
    with pytest.raises(ValueError, match="edge of 1 to 9 voxels, got 16"):
        metrics.representative_volumes(random_labels((10, 10, 10)), voxel_size_um=1.2)
    with pytest.raises(ValueError, match="same shape"):
        metrics.network_intervals(random_labels((30, 30, 30)), truth_zyx=random_labels((30, 30, 31)))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"n_blocks": 7}, "8 or more, got 7"), ({"level": 1.0}, "level must lie"), ({"level": 0}, "0")],
)
def test_settings_of_the_bootstrap_that_mean_nothing_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Bootstrap(**options)
