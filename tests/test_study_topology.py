import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import topology_recipe

from alsiseg import devices, phantom, prediction, runs, study, topology, unet
from alsiseg.dataset import GreyScale
from alsiseg.devices import Device
from alsiseg.phantom import detector, tomography
from alsiseg.phases import NETWORKS, Phase
from alsiseg.prediction import Options
from alsiseg.profiles import PROFILES
from alsiseg.runs import Trained
from alsiseg.study import Row, running
from alsiseg.study import rows as tidy
from alsiseg.study import topology as comparison
from alsiseg.study.topology import recipes, resolvable, variants
from alsiseg.study.topology import report as topology_report
from alsiseg.study.topology.comparing import Comparison, Plan
from alsiseg.study.topology.recipes import Ballot, Tuning
from alsiseg.study.topology.tested import RESOLVABLE, TRUTH_ITSELF, VALIDATION, key_of
from alsiseg.study.topology.variants import Cost
from alsiseg.unet import UNetConfig

CLEAN = phantom.DIFFICULTIES["clean"]["synchrotron"]
TINY = replace(PROFILES["tiny"], slow_shape_zyx=(36, 64, 64), fast_shape_zyx=(16, 48, 48), n_angles=30)


def random_labels(*shape_zyx: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, shape_zyx).astype(np.uint8)


def random_votes(*shape_zyx: int) -> np.ndarray:
    """Probabilities with some extent, so that networks have branches."""
    from scipy import ndimage

    noise = np.random.default_rng(1).standard_normal((len(Phase), *shape_zyx))
    raised = np.exp(8 * ndimage.gaussian_filter(noise, (0, 1, 1, 1)))
    return (raised / raised.sum(axis=0)).astype(np.float32)


def projected_point(blur_voxel: float, n: int = 33, at: tuple[int, int] = (10, 21)) -> np.ndarray:
    """A point within a slice as the tomograph of the phantom shows it, without noise and fringes."""
    beam = tomography.ParallelBeam(n, n, detector.RAYS_PER_COLUMN)
    point_pz = torch.zeros((n * n, 1))
    point_pz[at[0] * n + at[1]] = 1
    shown_pz = torch.zeros((n * n, 1))
    for views in beam.all_views(tomography.angles_rad(180)):
        sharp_acz = detector.blur(views.project(point_pz), (detector.RAYS_PER_COLUMN * blur_voxel, 0.0))
        seen_acz = sharp_acz.unflatten(1, (-1, detector.RAYS_PER_COLUMN)).mean(2)
        shown_pz += views.back_project(tomography.ramp_filter(seen_acz))
    return (shown_pz * math.pi / 180).numpy().reshape(n, n)


@pytest.mark.parametrize("blur_voxel", [0.5, 0.6])
def test_the_point_spread_is_that_of_the_tomograph(blur_voxel):
    along_z, along_y, along_x = resolvable.point_spread(replace(CLEAN, blur_voxel=blur_voxel))
    assert along_z == blur_voxel
    assert along_y == along_x
    shown_yx = projected_point(blur_voxel)
    rows, columns = np.mgrid[-10:23, -21:12]
    gaussian_yx = np.exp(-(rows**2 + columns**2) / (2 * along_y**2))
    assert shown_yx.sum() == pytest.approx(1, abs=0.01)
    # the peak holds 0.2 to 0.24: all of the rest is nearer than a tenth of it
    np.testing.assert_allclose(shown_yx, gaussian_yx / gaussian_yx.sum(), atol=0.02)


def test_a_sheet_thinner_than_the_point_spread_is_not_resolvable():
    truth_zyx = np.zeros((20, 24, 24), np.uint8)
    truth_zyx[:, 4, :] = Phase.SILICON  # of its one voxel along y the scan shows 46 %
    truth_zyx[:, 10:13, :] = Phase.SILICON
    truth_zyx[9, 18:, :] = Phase.ALUMINIDE  # along z the detector alone blurs: 68 %
    found_zyx = resolvable.resolvable_truth(truth_zyx, CLEAN)
    inside = (slice(2, -2), slice(None), slice(2, -2))
    assert not found_zyx[inside][:, 4].any()
    assert (found_zyx[inside][:, 10:13] == Phase.SILICON).all()
    assert (found_zyx[9, 20:-2, 2:-2] == Phase.ALUMINIDE).all()


def test_beside_the_volume_lies_matrix_and_above_it_its_mirror_image():
    truth_zyx = np.zeros((8, 16, 16), np.uint8)
    truth_zyx[0, 5:11, 5:11] = Phase.SILICON  # with its mirror image two slices thick
    truth_zyx[3:, 0, 4:12] = Phase.SILICON
    found_zyx = resolvable.resolvable_truth(truth_zyx, CLEAN)
    assert (found_zyx[0, 6:10, 6:10] == Phase.SILICON).all()
    assert not found_zyx[3:].any()


def test_the_point_spread_of_a_coarser_scan_is_not_known():
    with pytest.raises(ValueError, match="binning of 2"):
        resolvable.point_spread(phantom.DIFFICULTIES["clean"]["lab_ct"])


def holes_filled_slowly(labels_zyx: np.ndarray, min_voxels: int) -> np.ndarray:
    """The obvious way: hole after hole, face after face."""
    from scipy import ndimage

    filled_zyx = labels_zyx.copy()
    regions_zyx, n = ndimage.label(labels_zyx == Phase.MATRIX)
    for number in range(1, n + 1):
        places = np.argwhere(regions_zyx == number)
        faces = dict.fromkeys((Phase.SILICON, Phase.ALUMINIDE), 0)
        for place in places:
            for step in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int)):
                beside = place + step
                if (beside >= 0).all() and (beside < labels_zyx.shape).all() and labels_zyx[tuple(beside)]:
                    faces[Phase(labels_zyx[tuple(beside)])] += 1
        if len(places) < min_voxels:
            filled_zyx[regions_zyx == number] = max(faces, key=lambda phase: faces[phase])
    return filled_zyx


@pytest.mark.parametrize("min_voxels", [1, 2, 5, 40])
def test_holes_are_filled_as_face_by_face(min_voxels):
    labels_zyx = random_labels(7, 8, 9)
    found_zyx = recipes.without_holes(labels_zyx, min_voxels)
    np.testing.assert_array_equal(found_zyx, holes_filled_slowly(labels_zyx, min_voxels))
    assert found_zyx.dtype == np.uint8


def test_a_filled_cavity_is_none_any_more():
    shell_zyx = np.zeros((9, 9, 9), np.uint8)
    shell_zyx[1:8, 1:8, 1:8] = Phase.SILICON
    shell_zyx[4, 4, 4:6] = Phase.MATRIX
    assert topology.betti_numbers(shell_zyx == Phase.SILICON, connectivity=26) == (1, 0, 1)
    filled_zyx = recipes.without_holes(shell_zyx, 3)
    assert topology.betti_numbers(filled_zyx == Phase.SILICON, connectivity=26) == (1, 0, 0)
    with pytest.raises(ValueError, match="min_voxels must be 1"):
        recipes.without_holes(shell_zyx, 0)


def test_a_factor_gives_silicon_more_votes_and_takes_none_from_another_pair():
    votes_czyx = np.array([0.4, 0.3, 0.3], np.float32)[:, None, None, None].repeat(2, axis=3)
    votes_czyx[:, 0, 0, 1] = 0.5, 0.05, 0.45
    assert recipes.labels_of(votes_czyx).tolist() == [[[Phase.MATRIX, Phase.MATRIX]]]
    found_zyx = recipes.labels_of(votes_czyx, Tuning(silicon_factor=1.5))
    assert found_zyx.tolist() == [[[Phase.SILICON, Phase.MATRIX]]]
    assert votes_czyx[1, 0, 0, 0] == np.float32(0.3)  # the votes are not changed


def test_smoothing_takes_the_votes_of_neighbours_in():
    votes_czyx = np.zeros((3, 9, 9, 9), np.float32)
    votes_czyx[Phase.MATRIX] = 1
    votes_czyx[:, 4, 4, 4] = 0, 1, 0
    assert (recipes.labels_of(votes_czyx) == Phase.SILICON).sum() == 1
    assert not recipes.labels_of(votes_czyx, Tuning(sigma_voxel=0.8)).any()
    np.testing.assert_allclose(recipes.smoothed(votes_czyx, 0.8).sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("factor", [recipes.FACTORS[5], 1.0, recipes.FACTORS[10]])
def test_the_factor_is_found_that_makes_the_euler_number_right(factor):
    votes_czyx = random_votes(20, 24, 24)
    truth_zyx = recipes.labels_of(votes_czyx, Tuning(silicon_factor=factor))
    found = recipes.tuned(votes_czyx, truth_zyx, min_voxels=5)
    assert found[""] == Tuning()
    assert found[recipes.THRESHOLD] == Tuning(0.0, factor)


def test_the_smoothing_is_found_that_makes_the_euler_numbers_right():
    votes_czyx = random_votes(20, 24, 24) + 0.3 * np.random.default_rng(2).random((3, 20, 24, 24)).astype(np.float32)
    truth_zyx = recipes.labels_of(votes_czyx, Tuning(sigma_voxel=0.9))
    found = recipes.tuned(votes_czyx, truth_zyx, min_voxels=5)
    assert found[recipes.SMOOTHED] == Tuning(0.9)
    assert found[recipes.SMOOTHED + recipes.THRESHOLD] == Tuning(0.9, 1.0)
    fewer = recipes.tuned(votes_czyx, truth_zyx, min_voxels=5, thresholds=False)
    assert fewer == {"": Tuning(), recipes.SMOOTHED: Tuning(0.9)}


def test_of_equally_good_tunings_the_one_that_changes_least_is_taken():
    sure_czyx = np.zeros((3, 8, 8, 8), np.float32)
    sure_czyx[Phase.MATRIX], truth_zyx = 1, np.zeros((8, 8, 8), np.uint8)
    assert set(recipes.tuned(sure_czyx, truth_zyx, min_voxels=1).values()) == {Tuning()}


@pytest.fixture
def trained(monkeypatch) -> Trained:
    """An untrained network whose labels vary, run in float32."""
    monkeypatch.setattr(devices, "choose", lambda name="auto": Device("cpu", bfloat16=False))
    network = unet.build(UNetConfig(stem_channels=2), seed=3).train()
    images_bcyx = torch.randn(40, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    for batch_bcyx in images_bcyx.split(4):  # for the batch norms
        network(batch_bcyx)
    return Trained(network.eval(), GreyScale(0.0, 1.0, 1.0), 1, Path("run"))


def grey(*shape_zyx: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 60_000, shape_zyx).astype(np.uint16)


@pytest.mark.parametrize(
    "options", [Options(), Options(three_views=True, symmetries=True), Options(three_views=True, dropout_passes=2)]
)
def test_labels_are_the_largest_sum_of_probabilities(trained, options):
    grey_zyx = grey(9, 33, 40)
    found = prediction.probabilities(grey_zyx, trained, device="cpu", options=options)
    assert tuple(found) == options.member_names
    for each in found.values():
        assert (each.shape, each.dtype) == ((3, 9, 33, 40), np.float32)
        np.testing.assert_allclose(each.sum(axis=0), 1, atol=1e-5)
    labels_zyx = prediction.segment(grey_zyx, trained, device="cpu", options=options)
    assert (
        np.mean(np.sum(list(found.values()), axis=0).argmax(axis=0) == labels_zyx) > 0.999
    )  # ties aside: sums in another order


def test_probabilities_do_not_depend_on_slabs(trained, monkeypatch):
    grey_zyx, options = grey(40, 32, 32), Options(three_views=True)
    whole = prediction.probabilities(grey_zyx, trained, device="cpu", options=options)
    monkeypatch.setattr(prediction.planning, "SLAB_VOXELS", {"cpu": 16 * 32 * 32})
    monkeypatch.setattr(prediction.planning, "SLAB_SLICES_OF_THREE_VIEWS", 16)
    for name, each in prediction.probabilities(grey_zyx, trained, device="cpu", options=options).items():
        np.testing.assert_allclose(each, whole[name], atol=1e-4)


def test_a_network_votes_once_for_all_recipes(trained):
    grey_zyx = grey(9, 32, 32)
    found = recipes.ballots(grey_zyx, trained, symmetries=True)
    assert list(found) == ["slices", "three views", "symmetries", "three views + symmetries"]
    labels_zyx = prediction.segment(grey_zyx, trained, options=Options(three_views=True))
    assert np.mean(recipes.labels_of(found["three views"].votes_czyx) == labels_zyx) > 0.999
    assert list(recipes.ballots(grey_zyx, trained, symmetries=False)) == ["slices", "three views"]


def test_networks_that_vote_together_add_up():
    one = {"slices": Ballot(np.full((3, 1, 1, 1), 0.25, np.float32), 2.0)}
    total = recipes.added(recipes.added({}, one), one)
    assert total["slices"].votes_czyx.ravel().tolist() == [0.5] * 3
    assert total["slices"].seconds == 4.0
    assert [recipes.ensemble_of(name) for name in ("slices", "three views")] == ["ensemble", "ensemble + three views"]


def test_a_variant_is_the_configuration_with_one_change():
    config = TINY.training
    assert variants.changed("plain", config) == config
    assert variants.changed("7 slices", config) == replace(config, unet=replace(config.unet, n_slices=7))
    for name in variants.VARIANTS:
        assert variants.changed(name, config) != config
    variants.check(variants.NAMES)
    with pytest.raises(ValueError, match=r"among 7 slices, .*, 3-D U-Net, got 8 slices"):
        variants.check(["8 slices"])


def test_a_variant_is_timed_once_and_beside_the_plain_network(tmp_path):
    asked = []

    def measure(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    path = tmp_path / "costs.json"
    assert variants.cost(path, "clDice", measure) == Cost(1, 2)
    assert variants.cost(path, "plain", measure) == Cost(3, 4)
    assert variants.cost(path, "clDice", measure) == Cost(1, 2)
    assert asked == ["clDice", "plain", "plain", "plain"]


def scored(recipe: str, specimen: str, by_seed: dict[int, float], difficulty: str = "clean") -> list[Row]:
    """Rows of a recipe: every value of every network that many per cent above a truth of 100 (or points above 0.5)."""
    made = []
    for seed, error in by_seed.items():
        key = replace(key_of(difficulty, "1, 1, 1", seed), specimen=specimen, recipe=recipe)
        made += [replace(key, of="all phases", quantity=name, value=50.0) for name in ("accuracy_pct", "training_s")]
        for quantity in topology_report.NAMES:
            value, truth = (0.5 + error / 100, 0.5) if quantity.startswith("inter") else (100 + error, 100.0)
            for network in NETWORKS:
                made.append(replace(key, cleaned=True, of=network, quantity=quantity, value=value, truth=truth))
    return made


SCORES = [
    *scored("slices", "slow", {0: 40, 1: 42, 2: 44}),
    *scored("three views", "slow", {0: -30, 1: 32.5, 2: 34}),
    *scored("symmetries", "slow", {0: 30, 1: 42, 2: 54}),
    *scored("clDice", "slow", {0: 50, 1: 52.5, 2: 54}),
    *scored("ensemble", "slow", {-1: 4}),
    *scored("slices", VALIDATION, {0: 4, 1: 5, 2: 6}),
    *scored("three views", VALIDATION, {0: 3, 1: 4, 2: 5}),
    *scored("ensemble", VALIDATION, {-1: 20}),
]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("three views", r"on slow helps \(\+9.8 points"),
        ("symmetries", r"on slow cannot be told \(\+0.0 points"),
        ("clDice", r"on slow does not help, it harms \(-10.2 points"),
        ("ensemble", r"on slow helps \(\+38.0 points"),
        ("9 slices", "not measured"),
    ],
)
def test_a_recipe_is_compared_with_slices_seed_by_seed(recipe, words):
    said = topology_report.sentence(topology_report.Findings(SCORES), "clean", recipe)
    assert re.search(words, said), said


def test_the_best_recipe_is_chosen_without_the_unseen_specimens():
    findings = topology_report.Findings(SCORES)
    assert findings.unseen == ["slow"]
    assert findings.best("clean") == "three views"  # on the unseen specimen the ensemble is far better
    lines = topology_report.aims_table(findings).splitlines()[2:]
    assert len(lines) == 4 * len(NETWORKS)
    assert all("three views" in line and "**missed**" in line for line in lines)


def test_an_aim_is_met_by_what_lies_within_it():
    rows = [*scored("slices", "slow", {0: 0.9, 1: -0.9}), *scored("slices", VALIDATION, {0: 1, 1: 1})]
    lines = topology_report.aims_table(topology_report.Findings(rows)).splitlines()[2:]
    assert all("**met**" in line and "| 0.90" in line for line in lines)


def test_an_error_in_per_cent_of_nothing_is_none():
    [row] = [row for row in scored("slices", "slow", {0: 5}) if (row.quantity, row.of) == ("euler_26", "silicon")]
    none = topology_report.Measured([replace(row, truth=0.0)])
    assert math.isnan(none.error("euler_26", "silicon"))


def test_the_report_names_every_recipe_and_draws_them(tmp_path):
    path = topology_report.write_report(SCORES, tmp_path, 40)
    text = path.read_text("utf-8")
    assert "| three views | 50.00 | nan | +12.2 ± 90.7 / +12.2 ± 90.7" in text
    assert "fewer than 40 voxels" in text
    assert "clean: **three views** (smoothing and threshold were not tried)." in text
    drawn = {file.name for file in (tmp_path / "figures").iterdir()}
    assert drawn == {f"fig_recipes_clean.{end}" for end in ("png", "pdf", "csv")}


def test_the_report_says_how_the_best_recipe_was_tuned_where_anything_was():
    tunings = {"sigma_voxel": 0.8, "silicon_factor": 1.1}
    key = replace(key_of("clean", "1, 1, 1", 0), specimen=VALIDATION, recipe="slices + smoothed + threshold")
    best = scored(key.recipe, VALIDATION, {0: 1}) + [
        replace(key, of="all phases", quantity=name, value=value) for name, value in tunings.items()
    ]
    text = topology_report.text([*SCORES, *best], 40)
    assert "were tuned on one half of a validation specimen" in text
    assert f"clean: **{key.recipe}** (smoothed by 0.8 voxels; silicon's votes times 1.1; a value for each" in text


def test_a_compressed_table_is_read_as_it_was_written_and_a_torn_one_is_refused(tmp_path):
    rows = scored("slices", "slow", {0: 7.0})
    path = tidy.write(rows, tmp_path / "topology.csv.gz")
    whole = path.read_bytes()
    assert [str(row) for row in tidy.read(path)] == [str(row) for row in rows]
    assert tidy.write(rows, path).read_bytes() == whole  # no time in it
    for torn in (whole[: len(whole) // 2], b"no table", b""):
        path.write_bytes(torn)
        with pytest.raises(ValueError, match=r"topology\.csv\.gz"):
            tidy.read(path)


def test_the_summary_counts_the_aims_and_says_when_there_is_nothing_to_sum_up(tmp_path):
    rows = [*scored("slices", "slow", {0: 7, 1: 7}), *scored("slices", VALIDATION, {0: 1, 1: 1})]
    said = topology_report.summary(tidy.write(rows, tmp_path / "topology.csv.gz"))
    assert f"meets {2 * len(NETWORKS)} of {4 * len(NETWORKS)} aims" in said  # 7 % is too much for Euler (26), 1 point
    assert said.count("**missed**") == 2 * len(NETWORKS)
    assert "python -m alsiseg.study.topology" in topology_report.summary(tmp_path / "none.csv")


def test_without_a_study_the_comparison_says_what_to_do_first(tmp_path):
    plan = Plan(TINY, n_seeds=1, difficulties=("clean",), labels=("truth",))
    with pytest.raises(
        ValueError, match=r"needs at least one finished network .* run python -m alsiseg.study --profile"
    ):
        comparison.run(Comparison(plan, tmp_path / "study", tmp_path / "out", ()), say=lambda line: None)


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_was_stopped_and_with_more_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "FACTORS", (0.5, 1.0, 2.0))
    monkeypatch.setattr(recipes, "SIGMAS", (0.0, 0.8))
    plan = Plan(TINY, n_seeds=2, difficulties=("clean",), labels=("truth",), min_voxels=8)
    home, out = tmp_path / "study", tmp_path / "out"
    first, second = (c for c in plan.conditions if str(c.weights) == "1, 1, 1")
    running.train(plan, first, home, "cpu")
    asked = Comparison(plan, home, out, (), "cpu")
    said: list[str] = []
    comparison.run(asked, say=said.append)
    assert "    1 of 2 are there; the same command measures the others later" in said
    before = {path: path.stat().st_mtime_ns for path in (out / "measured").iterdir()}

    running.train(plan, second, home, "cpu")
    comparison.run(replace(asked, variants=("7 slices",)), say=said.append)
    path = comparison.run(replace(asked, variants=("three directions",)), say=said.append)
    assert any(line.startswith("    left out: windows along y and x need at least") for line in said)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    found = study.read(path)
    assert {row.seed for row in found} == {comparison.ALL_SEEDS, 0, 1}
    assert {row.specimen for row in found} == {
        place + behind for place in (VALIDATION, "slow", "fast") for behind in ("", RESOLVABLE)
    }
    assert {
        TRUTH_ITSELF,
        "slices",
        "three views + threshold",
        "ensemble + symmetries + smoothed",
        "7 slices + ensemble",
    } <= {row.recipe for row in found}
    tuned = {
        (row.specimen, row.recipe, row.seed, row.quantity): row.value
        for row in found
        if row.quantity in comparison.TUNED
    }
    assert tuned["slow", "slices", 0, "silicon_factor"] == 1
    for recipe, seed in (("slices + threshold", 0), ("7 slices + ensemble + smoothed", comparison.ALL_SEEDS)):
        for quantity in comparison.TUNED:
            assert len({tuned[name, recipe, seed, quantity] for name in (VALIDATION, "slow", "fast")}) == 1

    brief = replace(asked, study=replace(plan, brief=True))
    with pytest.raises(ValueError, match=r"other settings \(brief\)"):
        comparison.run(brief, say=said.append)
    brief = replace(brief, out=tmp_path / "brief")
    weighted = list(brief.families)[1]
    with runs.claimed(brief.out / "runs" / weighted.name):
        path = comparison.run(brief, say=said.append)
    assert said[-1] == "    in work elsewhere; who does it adds it to the table"
    kinds = {"slices", "three views", "ensemble", "ensemble + three views", TRUTH_ITSELF}
    assert {row.recipe for row in study.read(path)} == kinds
    same = ("slow", "three views", "euler_26")
    values = [
        [row.value for row in study.read(table) if (row.specimen, row.recipe, row.quantity) == same]
        for table in (path, out / comparison.TABLE)
    ]
    assert values[0] == values[1]


def test_the_table_of_the_winning_recipe_adds_errors_up_over_specimens():
    truth_zyx = np.zeros((12, 12, 12), np.uint8)
    truth_zyx[2:8, 2:8, 2:8], truth_zyx[2:8, 2:8, 8:11] = 1, 2
    votes_czyx = np.stack([truth_zyx == phase for phase in range(3)]).astype(np.float32)
    right = topology_recipe.Voted(votes_czyx, votes_czyx, truth_zyx)
    tunings = {"slow": {topology_recipe.BEST: Tuning()}}
    rows = [row for seed in (1, 2) for row in topology_recipe.rows_of("a run", "slow", seed, right, tunings)]
    written = topology_recipe.table(rows, tunings)
    assert "| slow | three views + smoothed + threshold, tuned on slow | 100.00 |" in written
    assert written.count("+0 ± 0 / +0 ± 0 / +0 ± 0") == 3 * 3  # recipes, and Euler numbers by 26 and 6 and b0
