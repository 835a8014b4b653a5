"""What the panels do, without a window: opening, segmenting, measuring, correcting, and following long work."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import metrics, prediction, runs, training, volumes
from alsiseg.phases import Phase
from alsiseg.plugin import measuring, opening, originals, particles, retraining, segmenting
from alsiseg.plugin.opening import Statement
from alsiseg.plugin.work import Progress, Stopped, Watched, duration
from alsiseg.prediction import Options
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (32, 40, 44)
TINY = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=2, batch=8, images_per_epoch=16)
PLUGIN = Path(opening.__file__).parent
PANELS = {"open_panel", "segment_panel", "measure_panel", "particles_panel", "correct_panel"}
WINDOW = PANELS | {"__init__", "bar", "forms", "grid"}  # what needs Qt


def blobs(seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Blobs of three phases whose grey values hardly overlap."""
    random = np.random.default_rng(seed)
    field_zyx = ndimage.gaussian_filter(random.normal(size=SHAPE_ZYX), 2.5, mode="wrap")
    labels_zyx = np.digitize(field_zyx, np.quantile(field_zyx, [0.6, 0.8])).astype(np.uint8)
    return (1000 + 400.0 * labels_zyx + random.normal(0, 60, SHAPE_ZYX)).astype(np.uint16), labels_zyx


GREY, LABELS = blobs()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return training.train(
        GREY, LABELS, tmp_path_factory.mktemp("trained") / "run", TINY, voxel_size_um=1.2, device="cpu"
    )


def test_the_manifest_names_functions_and_panels_that_are_there():
    yaml = pytest.importorskip("yaml")  # napari's
    manifest = yaml.safe_load((PLUGIN / "napari.yaml").read_text(encoding="utf-8"))
    commands = {one["id"]: one["python_name"] for one in manifest["contributions"]["commands"]}
    used = [one["command"] for kind in ("readers", "sample_data", "widgets") for one in manifest["contributions"][kind]]
    assert sorted(used) == sorted(commands)
    for name in commands.values():
        module, _, thing = name.partition(":")
        source = (PLUGIN / f"{module.rpartition('.')[2]}.py").read_text(encoding="utf-8")
        assert f"\ndef {thing}(" in source or f"\nclass {thing}(" in source
    patterns = manifest["contributions"]["readers"][0]["filename_patterns"]
    assert {f"*{suffix}" for suffix in opening.READABLE} == set(patterns)


def test_what_needs_no_window_loads_no_window():
    modules = ", ".join(f"alsiseg.plugin.{path.stem}" for path in PLUGIN.glob("*.py") if path.stem not in WINDOW)
    code = f"import sys, {modules}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    loaded = set(ended.stdout.split())
    assert "alsiseg" in loaded
    assert not {"napari", "qtpy", "magicgui"} & loaded


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_a_time_is_written_for_people(seconds, words):
    assert duration(seconds) == words


def test_progress_tells_the_share_and_the_time_left():
    progress = Progress()
    progress.begin("segmenting")
    assert str(progress).startswith("segmenting, 0 s so far")
    progress.at(0.5)
    assert str(progress).startswith("segmenting, 50 %, about ")
    progress.at(1.7)
    assert progress.share == 1.0
    progress.stop.set()
    assert str(progress) == "stopping ..."
    with pytest.raises(Stopped):
        progress.at(0.6)


def test_a_watched_volume_is_the_volume_and_tells_how_much_was_read():
    progress = Progress()
    watched = Watched(LABELS, progress, n_times=2)
    np.testing.assert_array_equal(np.asarray(watched), LABELS)
    np.testing.assert_array_equal(watched[3], LABELS[3])
    assert progress.share == pytest.approx(0.5)
    assert (watched.shape, watched.ndim, watched.dtype, len(watched)) == (SHAPE_ZYX, 3, np.uint8, SHAPE_ZYX[0])
    progress.stop.set()
    with pytest.raises(Stopped):
        watched[4:7]


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(three_views=True, uncertainty=True),
        Options(symmetries=True),
        Options(dropout_passes=2, tile_px=32),
    ],
    ids=["plain", "three views", "symmetries", "dropout in tiles"],
)
def test_the_labels_are_those_of_the_library_and_progress_ends_at_one(run_dir, options):
    progress, trained = Progress(), segmenting.load(run_dir)
    found = segmenting.segment(GREY, trained, progress, options=options, device="cpu")
    wanted = prediction.predict(GREY, trained, options=options, device="cpu")
    np.testing.assert_array_equal(found.labels_zyx, wanted.labels_zyx)
    assert (found.uncertainty_zyx is None) == (wanted.uncertainty_zyx is None)
    assert progress.share == pytest.approx(1.0, abs=0.1)
    assert found.device == "the processor (no GPU)"


def test_segmenting_stops_at_the_next_step(run_dir):
    progress = Progress()
    trained = segmenting.load(run_dir)
    progress.stop.set()
    with pytest.raises(Stopped):
        segmenting.segment(GREY, trained, progress, device="cpu")


def test_segmenting_is_stopped_from_another_thread_in_its_middle(run_dir, monkeypatch):
    progress, seen = Progress(), []
    at = progress.at

    def stop_in_the_middle(share):
        seen.append(share)
        if len(seen) == 7:
            progress.stop.set()
        at(share)

    monkeypatch.setattr(progress, "at", stop_in_the_middle)
    with pytest.raises(Stopped):
        segmenting.segment(GREY, segmenting.load(run_dir), progress, device="cpu")
    assert len(seen) < 12


def test_a_scan_unlike_those_of_the_training_is_remarked(run_dir):
    trained = segmenting.load(run_dir)
    assert segmenting.segment(GREY, trained, Progress(), voxel_size_um=1.2, device="cpu").warnings == ()
    blurred = ndimage.gaussian_filter(GREY.astype(np.float32), 4)
    assert segmenting.segment(blurred, trained, Progress(), voxel_size_um=5.0, device="cpu").warnings != ()


def test_a_network_is_a_run_an_epoch_of_it_or_a_file(run_dir):
    assert segmenting.epochs(run_dir)[0] == "the last"
    assert segmenting.load(run_dir, "epoch 2").epoch == segmenting.load(run_dir).epoch == 2
    assert segmenting.load(run_dir / "checkpoints" / "epoch_0002.safetensors").epoch == 2
    assert segmenting.epochs(Path("nowhere")) == ["the last"]
    with pytest.raises(ValueError, match="no run folder is chosen"):
        segmenting.load(Path())


def test_labels_that_do_not_fit_into_memory_are_refused(run_dir):
    class Huge:
        shape, dtype, ndim = (200_000, 200_000, 200_000), np.dtype(np.uint16), 3

    with pytest.raises(ValueError, match="write them to a file with the command alsiseg segment"):
        segmenting.segment(Huge(), segmenting.load(run_dir), Progress())


def test_the_table_holds_the_numbers_of_the_library():
    progress = Progress()
    table = measuring.measure(LABELS, None, progress, voxel_size_um=1.2)
    report = metrics.measure(LABELS, voxel_size_um=1.2)
    assert table == measuring.table_of(report)
    cells = {row[:2]: row[2:] for row in table.rows}
    measure = report.labels.networks["silicon"]
    assert cells["silicon", "volume fraction [vol.%]"][0] == f"{measure.volume_fraction_pct:.2f}"
    assert cells["aluminides", "Euler number"][0] == str(report.labels.networks["aluminides"].euler_number)
    area = report.labels.interface_areas_per_mm["silicon-aluminides"]
    assert cells["silicon-aluminides", "interface area per volume [1/mm]"][0] == f"{area:.1f}"
    assert ("silicon", "Euler number [1000/mm3], corrected for faces") in cells
    assert "truth" not in " ".join(table.headings)
    assert progress.share is not None
    assert progress.share > 0.5


def test_a_comparison_has_its_columns_and_the_share_that_agrees():
    other = LABELS.copy()
    other[:4] = Phase.MATRIX
    table = measuring.measure(other, LABELS, Progress(), voxel_size_um=None, intervals=False)
    assert table.headings == ("network", "measure", "value", "compared with", "difference")
    assert table.notes[0].startswith(f"{100 * (other == LABELS).mean():.2f} % of the voxels agree")


def test_a_table_is_copied_and_saved_as_it_is_shown(tmp_path):
    table = measuring.measure(LABELS, None, Progress(), voxel_size_um=1.2)
    path = measuring.save_csv(table, tmp_path / "measured")
    assert path.name == "measured.csv"
    rows = [list(table.headings), *map(list, table.rows)]
    assert list(csv.reader(io.StringIO(path.read_text(encoding="utf-8")))) == rows
    assert [line.split("\t") for line in table.as_tabs().splitlines()] == rows


def test_measuring_stops_when_asked():
    progress = Progress()
    progress.stop.set()
    with pytest.raises(Stopped):
        measuring.measure(LABELS, None, progress, voxel_size_um=None)


def test_particles_are_listed_with_units_and_described_in_words():
    found = metrics.find_particles(LABELS, "silicon", voxel_size_um=2.0, min_voxels=5)
    table, first = particles.table_of(found), found.each[0]
    assert table.headings[:4] == ("particle", "voxels", "volume [um3]", "surface [um2]")
    assert table.rows[0][:3] == ("1", str(first.n_voxels), f"{first.n_voxels * 8:.1f}")
    assert len(table.rows) == len(found.each)
    words = particles.in_words(first)
    assert "um3" in words
    assert "aluminides" in words
    assert words.endswith("cuts it off.") == first.at_a_face
    features = particles.features(found)
    assert features["index"] == list(range(len(found.each) + 1))
    assert {len(column) for column in features.values()} == {len(found.each) + 1}


def test_no_particle_is_said_so():
    found = metrics.find_particles(np.zeros((4, 4, 4), np.uint8), "hybrid")
    table = particles.table_of(found)
    assert (table.rows, table.notes) == ([], ["There is no hybrid in these labels."])


def test_corrections_are_learned_and_told_before_and_after(run_dir, tmp_path):
    before = prediction.segment(GREY, run_dir, device="cpu")
    corrected = before.copy()
    corrected[10, :20] = LABELS[10, :20]  # one slice is enough
    found = retraining.retrain(
        run_dir, tmp_path / "new", GREY, before, corrected, Progress(), minutes=0.02, voxel_size_um=1.2, device="cpu"
    )
    np.testing.assert_array_equal(found.labels_zyx, prediction.segment(GREY, tmp_path / "new", device="cpu"))
    painted = before != corrected
    assert found.before.corrected_voxels_pct == 0.0
    assert found.after.corrected_voxels_pct == pytest.approx(
        100 * (found.labels_zyx[painted] == corrected[painted]).mean()
    )
    assert found.before.other_slices_pct == 100.0
    assert "voxels you corrected: 0.0 % -> " in str(found)
    assert json.loads((tmp_path / "new" / "settings.json").read_text())["parent"]


def test_what_was_first_trained_on_is_found_among_open_volumes_and_seen_again(run_dir, tmp_path):
    before = prediction.segment(GREY, run_dir, device="cpu")
    corrected = before.copy()
    corrected[10, :20] = LABELS[10, :20]
    options = {"minutes": 0.02, "voxel_size_um": 1.2, "device": "cpu"}
    opened = [before, GREY[1:], LABELS, GREY]
    found = retraining.retrain(run_dir, tmp_path / "new", GREY, before, corrected, Progress(), opened=opened, **options)
    assert found.with_original
    assert "Half of what it saw came from its first training." in str(found)
    assert runs.read_settings(tmp_path / "new")["correction"]["original_data"] is True
    assert originals.among([before, GREY], run_dir) is None
    assert originals.among(opened, tmp_path / "new") is not None, "of a correction, those of the first training"


def test_what_was_first_trained_on_is_read_from_files(tmp_path):
    scan, labels = volumes.write(tmp_path / "scan.tif", GREY), volumes.write(tmp_path / "labels.tif", LABELS)
    grey_zyx, labels_zyx = originals.from_files(scan, labels)
    np.testing.assert_array_equal(grey_zyx, GREY)
    np.testing.assert_array_equal(labels_zyx, LABELS)
    assert originals.from_files(Path(), Path()) is None
    with pytest.raises(ValueError, match=r"found only .*scan.tif; name both or none"):
        originals.from_files(scan, Path())


def test_a_network_that_comes_with_alsiseg_is_chosen_by_its_name(run_dir, tmp_path, monkeypatch):
    shutil.copytree(run_dir, tmp_path / "shipped" / "alsi-small")
    monkeypatch.setattr("alsiseg.runs.places.SHIPPED", tmp_path / "shipped")
    assert segmenting.epochs(Path("alsi-small")) == segmenting.epochs(run_dir)
    assert segmenting.load(Path("alsi-small")).epoch == 2
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert retraining.new_run_dir(Path("alsi-small")) == tmp_path / "alsi-small_corrected_1"
    with pytest.raises(ValueError, match="or type alsi-small"):
        segmenting.load(Path())


def test_without_a_correction_nothing_is_learned():
    with pytest.raises(ValueError, match="needs corrections, found none"):
        retraining.painted(LABELS, LABELS.copy())
    with pytest.raises(ValueError, match="of the same scan"):
        retraining.painted(LABELS, LABELS[1:])


def test_a_correction_gets_a_folder_of_its_own_beside_the_run(run_dir):
    first = retraining.new_run_dir(run_dir)
    assert first == run_dir.with_name("run_corrected_1")
    first.mkdir()
    assert retraining.new_run_dir(run_dir / "checkpoints" / "epoch_0002.json").name == "run_corrected_2"
    first.rmdir()


def test_files_that_are_volumes_are_read_and_others_left_alone(tmp_path):
    tiff = volumes.write(tmp_path / "a.tif", GREY, voxel_size_um=1.2)
    slices = tmp_path / "slices"
    slices.mkdir()
    (slices / "0.tiff").touch()
    (tmp_path / "empty").mkdir()
    assert opening.reader(str(tiff)) is opening.read
    assert opening.reader([str(slices)]) is opening.read
    assert opening.reader(str(tmp_path / "empty")) is None
    assert opening.reader(str(tmp_path / "a.png")) is None


def test_what_a_file_does_not_state_is_taken_from_the_user(tmp_path):
    GREY.tofile(tmp_path / "bare.raw")
    stated = Statement(raw_shape_zyx="32, 40 44", raw_dtype="<u2", voxel_size_um=0.65)
    volume = stated.open(tmp_path / "bare.raw")
    np.testing.assert_array_equal(np.asarray(volume), GREY)
    assert volume.voxel_size_um == 0.65
    with pytest.raises(ValueError, match="three whole numbers"):
        Statement(raw_shape_zyx="32, 40").open(tmp_path / "bare.raw")


@pytest.mark.parametrize(
    ("slice_yx", "is_phases"),
    [
        (LABELS[0], True),
        (GREY[0], False),
        (np.zeros((3, 3), np.uint8), False),
        (np.array([[0, 3]], np.uint8), False),
        (np.array([[-1, 1]], np.int16), False),
        (np.array([[0.0, 1.0]]), False),
    ],
)
def test_phases_are_told_from_grey_values(slice_yx, is_phases):
    assert opening.holds_phases(slice_yx) == is_phases
