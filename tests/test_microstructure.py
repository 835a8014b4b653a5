import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from scipy.ndimage import binary_dilation, distance_transform_edt

from alsiseg import metrics, topology
from alsiseg.phantom import materials, microstructure, partial_volume, particles, surfaces
from alsiseg.phantom.materials import Variant
from alsiseg.phantom.microstructure import Microstructure
from alsiseg.phantom.partial_volume import Sheets
from alsiseg.phantom.surfaces import Body, Surfaces
from alsiseg.phases import NETWORKS, Phase, network_mask

SMALL = (24, 48, 48)
MODERATE = (96, 112, 112)


@pytest.fixture(scope="module")
def slow():
    return microstructure.grow(MODERATE, specimen="slow", seed=0)


@pytest.fixture(scope="module")
def fast():
    return microstructure.grow(MODERATE, specimen="fast", seed=0)


def fraction(specimen, phase):
    return float((specimen.labels_zyx == phase).mean())


def every_array(specimen):
    return [getattr(specimen, f.name) for f in dataclasses.fields(specimen) if f.name.endswith("_zyx")]


def mean_chord(mask_zyx):
    n_ends = sum(np.count_nonzero(np.diff(mask_zyx.astype(np.int8), axis=axis)) for axis in range(3))
    return 6 * mask_zyx.sum() / n_ends


# --- the same specimen


def test_the_same_seed_and_shape_give_the_same_bytes():
    first, second = (microstructure.grow(SMALL, seed=7) for _ in range(2))
    for one, other in zip(every_array(first), every_array(second), strict=True):
        assert one.tobytes() == other.tobytes()


def test_the_number_of_threads_changes_no_byte():
    alone = microstructure.grow(SMALL, specimen="fast", seed=3)
    with scipy.fft.set_workers(3):
        together = microstructure.grow(SMALL, specimen="fast", seed=3)
    for one, other in zip(every_array(alone), every_array(together), strict=True):
        assert one.tobytes() == other.tobytes()


def test_another_seed_gives_another_specimen():
    first, second = (microstructure.grow(SMALL, seed=s).labels_zyx for s in (1, 2))
    assert (first != second).mean() > 0.2


@pytest.mark.parametrize("specimen", ["slow", "fast"])
@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_shape_grows(specimen, seed):
    grown = microstructure.grow((16, 16, 16), specimen=specimen, seed=seed)
    assert grown.labels_zyx.shape == (16, 16, 16)


@pytest.mark.parametrize("voxel_size_um", [0.4, 4.0])
def test_very_fine_and_very_coarse_voxels_grow(voxel_size_um):
    grown = microstructure.grow(SMALL, seed=1, voxel_size_um=voxel_size_um)
    assert grown.voxel_size_um == voxel_size_um
    assert 0.02 < fraction(grown, Phase.SILICON) < 0.3


# --- shares and labels


@pytest.mark.parametrize("name", ["slow", "fast"])
def test_shares_never_fill_more_than_a_voxel_and_agree_with_the_labels(name, request):
    grown = request.getfixturevalue(name)
    silicon, aluminide = grown.silicon_share_zyx.astype(int), grown.aluminide_share_zyx.astype(int)
    matrix = 255 - silicon - aluminide
    assert matrix.min() >= 0
    shares = np.stack([matrix, silicon, aluminide])
    assert (np.take_along_axis(shares, grown.labels_zyx[None].astype(int), 0)[0] == shares.max(0)).all()


def test_equal_shares_go_to_the_more_common_phase():
    silicon = np.array([127, 128, 128, 85, 0, 0], dtype=np.uint8)
    aluminide = np.array([0, 0, 127, 85, 127, 128], dtype=np.uint8)
    expected = [Phase.MATRIX, Phase.SILICON, Phase.SILICON, Phase.MATRIX, Phase.MATRIX, Phase.ALUMINIDE]
    assert surfaces.labels_of(silicon, aluminide).tolist() == expected
    half = np.array([100], dtype=np.uint8)
    assert surfaces.labels_of(half, half).tolist() == [Phase.SILICON]


def test_many_silicon_voxels_are_only_partly_silicon(slow):
    inside = slow.silicon_share_zyx[slow.labels_zyx == Phase.SILICON]
    assert 0.25 < (inside < 230).mean() < 0.9


def tilted_sheet(shape_zyx, normal_zyx, place, thickness):
    normal = np.array(normal_zyx) / np.linalg.norm(normal_zyx)
    z, y, x = np.indices(shape_zyx, dtype=np.float32)
    offset = (normal[0] * z + normal[1] * y + normal[2] * x - place).astype(np.float32)
    return Sheets(offset, np.full(shape_zyx, thickness / 2, dtype=np.float32))


def of_silicon(sheets):
    nothing = particles.no_particles(sheets.offset_zyx.shape)
    no_aluminide = Body(nothing, Sheets(nothing, -nothing))
    return Surfaces(Body(nothing, sheets), no_aluminide)


@pytest.mark.parametrize("place", [9.0, 9.2, 9.37, 9.5])
@pytest.mark.parametrize("thickness", [0.3, 0.5, 1.0, 1.8])
def test_the_shares_of_a_plate_add_up_to_its_thickness(place, thickness):
    silicon, _ = of_silicon(tilted_sheet((20, 6, 6), (1, 0, 0), place, thickness)).shares()
    assert silicon.sum(0) / 255 == pytest.approx(np.full((6, 6), thickness), abs=0.01)


def test_a_plate_half_a_voxel_thick_has_a_share_of_one_half_wherever_it_lies():
    for place in (9.0, 8.8, 9.24):
        silicon, _ = of_silicon(tilted_sheet((20, 6, 6), (1, 0, 0), place, 0.5)).shares()
        assert silicon[9] / 255 == pytest.approx(np.full((6, 6), 0.5), abs=0.01)


def test_a_plate_between_two_voxel_centres_is_not_lost():
    silicon, _ = of_silicon(tilted_sheet((20, 6, 6), (1, 0, 0), 9.5, 0.4)).shares()
    assert silicon[9:11] / 255 == pytest.approx(np.full((2, 6, 6), 0.2), abs=0.01)


def test_a_tilted_plate_keeps_its_volume():
    normal = np.array([3.0, 2.0, 1.0])
    silicon, _ = of_silicon(tilted_sheet((40, 24, 24), normal, 24.0, 0.9)).shares()
    along_z = 0.9 * np.linalg.norm(normal) / normal[0]
    assert silicon.sum(0).mean() / 255 == pytest.approx(along_z, rel=0.01)


def test_a_ball_keeps_its_volume():
    z, y, x = np.indices((24, 24, 24), dtype=np.float32) - 11.7
    level = np.sqrt(z**2 + y**2 + x**2) - 6
    far = particles.no_particles(level.shape)
    ball = Surfaces(Body(far, Sheets(far, -far)), Body(level, Sheets(far, -far)))
    assert ball.shares()[1].sum() / 255 == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)


def test_eutectic_silicon_leaves_aluminides_what_they_took():
    thick, thin = (tilted_sheet((20, 6, 6), (1, 0, 0), 9.0, thickness) for thickness in (2.0, 1.0))
    far = particles.no_particles((20, 6, 6))
    shares = Surfaces(Body(far, thick), Body(far, thin)).shares()
    for share in shares:
        assert share[:, 3, 3].sum() / 255 == pytest.approx(1.0, abs=0.01)


def test_aluminides_leave_primary_silicon_what_it_took():
    plate = tilted_sheet((20, 6, 6), (1, 0, 0), 9.0, 2.0)
    far = particles.no_particles((20, 6, 6))
    half_space = plate.offset_zyx
    _, aluminide = Surfaces(Body(half_space, Sheets(far, -far)), Body(far, plate)).shares()
    assert aluminide[:, 3, 3].sum() / 255 == pytest.approx(1.0, abs=0.01)
    assert aluminide[:9].max() == 0


def test_the_parts_of_a_cell_that_a_thin_sheet_covers_are_known():
    offset = np.array([0, 0, 0.25, 0.5, 0.6], dtype=np.float32)
    reach = np.array([0.1, -0.1, 0.25, 0.25, 0.25], dtype=np.float32)
    assert partial_volume.covered_by_sheets(offset, reach) == pytest.approx([0.4, 0, 0.5, 0, 0])


@pytest.mark.parametrize("phase", [Phase.SILICON, Phase.ALUMINIDE])
def test_no_speck_is_left_and_none_hides_in_the_shares(fast, phase):
    pieces = topology.components(fast.labels_zyx == phase)
    assert pieces.sizes.min() >= microstructure.MIN_VOXELS[phase]


# --- what a metallographer would measure


def test_slow_fractions_are_those_of_the_training_sample(slow):
    assert 0.13 < fraction(slow, Phase.SILICON) < 0.18
    assert 0.10 < fraction(slow, Phase.ALUMINIDE) < 0.12


def test_fast_fractions_are_those_of_the_second_volume(fast):
    assert fraction(fast, Phase.SILICON) == pytest.approx(0.14, abs=0.01)
    assert fraction(fast, Phase.ALUMINIDE) == pytest.approx(0.18, abs=0.01)


def test_fast_silicon_is_less_connected_and_every_network_branches_more(slow, fast):
    slow_networks, fast_networks = (metrics.measure_networks(one.labels_zyx) for one in (slow, fast))
    assert slow_networks["silicon"].interconnectivity - fast_networks["silicon"].interconnectivity > 0.05
    for name in NETWORKS:
        assert fast_networks[name].euler_number < slow_networks[name].euler_number < 0


@pytest.mark.parametrize("network", list(NETWORKS))
def test_every_network_of_fast_is_finer(slow, fast, network):
    slow_chord, fast_chord = (mean_chord(network_mask(one.labels_zyx, network)) for one in (slow, fast))
    assert fast_chord < 0.95 * slow_chord


@pytest.mark.parametrize(("network", "needed"), [("aluminides", 0.94), ("hybrid", 0.99)])
def test_aluminides_and_hybrid_form_one_network(fast, network, needed):
    assert topology.interconnectivity(network_mask(fast.labels_zyx, network)) > needed


@pytest.mark.parametrize("name", ["slow", "fast"])
def test_silicon_is_one_to_three_voxels_thick(name, request):
    silicon = request.getfixturevalue(name).labels_zyx == Phase.SILICON
    # The chord of a plate cut at random is twice its thickness.
    assert 1 < mean_chord(silicon) / 2 < 3
    assert np.median(distance_transform_edt(silicon)[silicon]) < 1.5


def test_some_silicon_is_primary_and_blocky(slow):
    assert distance_transform_edt(slow.labels_zyx == Phase.SILICON).max() > 4


@pytest.mark.parametrize("name", ["slow", "fast"])
def test_silicon_often_touches_aluminides(name, request):
    labels = request.getfixturevalue(name).labels_zyx
    silicon, aluminide = (labels == p for p in (Phase.SILICON, Phase.ALUMINIDE))
    touching = binary_dilation(silicon) & aluminide
    surface = binary_dilation(~aluminide) & aluminide
    assert 0.1 < touching.sum() / surface.sum() < 0.8


def test_every_variant_belongs_to_its_phase(slow):
    variants, labels = slow.variants_zyx, slow.labels_zyx
    assert ((variants == Variant.AL) == (labels == Phase.MATRIX)).all()
    assert ((variants == Variant.SI) == (labels == Phase.SILICON)).all()
    assert len(np.unique(variants[labels == Phase.ALUMINIDE])) >= 4
    assert set(np.unique(slow.aluminides_zyx)) <= set(Variant) - {Variant.AL, Variant.SI}


def test_a_finer_voxel_enlarges_the_features():
    coarse, fine = (microstructure.grow((32, 64, 64), seed=3, voxel_size_um=v) for v in (1.2, 0.6))
    assert mean_chord(fine.labels_zyx != Phase.MATRIX) > 1.4 * mean_chord(coarse.labels_zyx != Phase.MATRIX)


# --- the microstructure as data


def test_a_sharp_microstructure_is_wholly_what_it_is_labelled():
    variants = np.array([[[Variant.AL, Variant.SI, Variant.AL2CU, Variant.AL3NI]]], dtype=np.uint8)
    labels = np.array([[[0, 1, 2, 2]]], dtype=np.uint8)
    sharp = Microstructure.sharp(labels, variants, 1.2)
    assert (sharp.variants_zyx == variants).all()
    table = materials.attenuation_table_per_um()
    assert sharp.mixed(table) == pytest.approx(table[variants], rel=1e-6)


def test_a_mixed_voxel_lies_between_its_constituents():
    silicon, aluminide = (np.full((2, 1, 1), share, dtype=np.uint8) for share in (51, 102))
    kind = np.full((2, 1, 1), Variant.AL2CU, dtype=np.uint8)
    voxels = Microstructure(surfaces.labels_of(silicon, aluminide), silicon, aluminide, kind, 1.2)
    table = np.zeros(len(Variant))
    table[[Variant.AL, Variant.SI, Variant.AL2CU]] = 1, 2, 11
    assert voxels.mixed(table, slice(1, 2)) == pytest.approx(np.full((1, 1, 1), 0.4 + 0.2 * 2 + 0.4 * 11))
    assert voxels.mixed(table).dtype == np.float32


def test_a_box_cuts_every_array(slow):
    box = slow.box(slice(2, 6), slice(0, 5), slice(3, 10))
    assert {array.shape for array in every_array(box)} == {(4, 5, 7)}
    assert (box.labels_zyx == slow.labels_zyx[2:6, :5, 3:10]).all()
    assert slow.slices(slice(4, 7)).labels_zyx.shape == (3, 112, 112)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_zyx": (15, 48, 48)}, "at least 16 voxels"),
        ({"shape_zyx": (48, 48)}, "three axes"),
        ({"shape_zyx": (24, 48, 0)}, "at least 16 voxels"),
        ({"shape_zyx": (24, 48, -48)}, "at least 16 voxels"),
        ({"shape_zyx": (24.5, 48, 48)}, "whole numbers"),
        ({"shape_zyx": 48}, "three axes"),
        ({"specimen": "medium"}, "slow, fast"),
        ({"voxel_size_um": 0}, "positive length"),
        ({"voxel_size_um": -1.2}, "positive length"),
        ({"voxel_size_um": float("nan")}, "positive length"),
        ({"voxel_size_um": float("inf")}, "positive length"),
        ({"seed": -1}, "zero or a positive"),
        ({"seed": 1.5}, "whole number"),
    ],
)
def test_impossible_requests_are_refused_in_one_sentence(change, message):
    with pytest.raises(ValueError, match=message) as refused:
        microstructure.grow(**({"shape_zyx": SMALL} | change))
    assert "\n" not in str(refused.value)


def test_the_calibration_on_record_is_that_of_this_generator_and_keeps_every_limit():
    """Five seeds of both specimens at full size, measured by benchmarks/calibration.py."""
    benchmarks = Path(__file__).parents[1] / "benchmarks"
    calibration = runpy.run_path(str(benchmarks / "calibration.py"))
    report = json.loads((benchmarks / "results" / "calibration.json").read_text(encoding="utf-8"))
    assert report["source_sha256"] == calibration["source_checksum"](), "run benchmarks/calibration.py again"
    assert report["shape_zyx"] == [300, 319, 379]
    assert len({(row["specimen"], row["seed"]) for row in report["volumes"]}) >= 10
    assert [row["missed"] for row in report["volumes"] + report["comparisons"] if row["missed"]] == []
