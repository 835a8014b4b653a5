import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from alsiseg import cli, metrics, runs, volumes

SHAPE_ZYX = (36, 40, 48)
TRAINING = ["--width", "2", "--epochs", "1", "--images-per-epoch", "8", "--batch", "4", "--device", "cpu"]


@dataclass
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def alsiseg(capfd, monkeypatch):
    """Run the command line as the console script does."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["alsiseg", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Ended(status, *capfd.readouterr())

    return run


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything under a folder, with size and time of change."""
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def refused(ended: Ended, *words: str) -> None:
    """Exit status 2, one line on standard error that holds the words, nothing else."""
    assert ended.status == 2, ended
    assert ended.err.startswith("alsiseg: ")
    assert ended.err.count("\n") == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Folder of a scan, its labels, and a trained run."""
    folder = tmp_path_factory.mktemp("scans")
    random = np.random.default_rng(0)
    labels_zyx = random.integers(0, 3, SHAPE_ZYX).astype(np.uint8)
    grey_zyx = (1000 + 400.0 * labels_zyx + random.normal(0, 50, SHAPE_ZYX)).astype(np.uint16)
    volumes.write(folder / "grey.tif", grey_zyx, voxel_size_um=1.2)
    volumes.write(folder / "labels.tif", labels_zyx, voxel_size_um=1.2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["alsiseg", "train", *map(str, _train_arguments(folder)), *TRAINING])
        cli.main()
    return folder


def _train_arguments(folder: Path) -> tuple[Path, Path, Path]:
    return folder / "grey.tif", folder / "labels.tif", folder / "run"


def test_a_specimen_is_made_trained_on_segmented_and_measured(alsiseg, tmp_path):
    made = alsiseg("phantom", tmp_path / "s", "--shape", "36,64,64", "--angles", "12")
    assert made.status == 0, made
    truth, scan = tmp_path / "s" / "truth.tif", tmp_path / "s" / "synchrotron.tif"
    assert volumes.open(truth).shape == volumes.open(scan).shape == (36, 64, 64)
    trained = alsiseg("train", scan, truth, tmp_path / "run", "--weights", "1,1.15,1.2", *TRAINING)
    assert trained.status == 0, trained
    assert runs.read_settings(tmp_path / "run")["config"]["weights"]["silicon"] == 1.15
    segmented = alsiseg("segment", scan, tmp_path / "labels.tif", "--run", tmp_path / "run", "--device", "cpu")
    assert segmented.status == 0, segmented
    labels = volumes.open(tmp_path / "labels.tif")
    assert (labels.shape, labels.voxel_size_um) == ((36, 64, 64), 1.2)
    measured = alsiseg("measure", tmp_path / "labels.tif", "--truth", truth, "--json", tmp_path / "m.json")
    assert measured.status == 0, measured
    numbers = json.loads((tmp_path / "m.json").read_text())
    expected = metrics.measure_networks(volumes.open(truth)[:], voxel_size_um=1.2)
    assert numbers["truth"]["silicon"]["euler_number"] == expected["silicon"].euler_number
    assert numbers["accuracy"] == metrics.accuracy(labels[:], volumes.open(truth)[:])
    assert f"{100 * numbers['accuracy']:.2f} %" in measured.out
    for ended in (made, trained, segmented, measured):
        assert "Traceback" not in ended.err


def test_three_scans_are_labelled(alsiseg, tmp_path):
    made = alsiseg("phantom", tmp_path / "s", "--shape", "40,64,64", "--angles", "60")
    assert made.status == 0, made
    three = [tmp_path / "s" / f"{name}.tif" for name in ("lab_ct", "synchrotron", "etched")]
    out = tmp_path / "labels.tif", "--confidence", tmp_path / "sure.tif"
    labelled = alsiseg("label", *three, *out)
    assert labelled.status == 0, labelled
    for name in ("labels.tif", "sure.tif"):
        volume = volumes.open(tmp_path / name)
        assert (volume.shape, volume.dtype, volume.voxel_size_um) == ((40, 64, 64), np.uint8, 1.2)
    thresholds, lab_move, etched_move = labelled.out.splitlines()[:3]
    assert "thresholds: laboratory" in thresholds
    for name, line in (("laboratory", lab_move), ("etched", etched_move)):
        assert line.startswith(f"{name} scan moved")
        assert " voxels = " in line
        assert " um, turned by " in line
        assert " degrees" in line

    before = listing(tmp_path)
    refused(alsiseg("label", *three, *out), "exists already", "--overwrite")
    refused(alsiseg("label", *three, tmp_path / "new.tif", "--confidence", tmp_path / "new.tif"), "two files")
    refused(alsiseg("label", *three, tmp_path / "new.tif", "--thresholds", "1,nan,3"), "finite grey values")
    refused(alsiseg("label", *three, tmp_path / "new.tif", "--thresholds", "1,2"), "3 numbers")
    assert listing(tmp_path) == before
    chosen = alsiseg("label", *three, *out, "--thresholds", "19000,27000,60000", "--overwrite")
    assert chosen.status == 0, chosen
    assert "laboratory 19000, synchrotron 27000, etched without fringes 60000" in chosen.out
    assert (volumes.open(tmp_path / "labels.tif")[:] == 0).mean() > 0.9


def test_a_training_is_continued_on_demand(alsiseg, scans, tmp_path):
    _, labels, _ = _train_arguments(scans)
    arguments = ("train", scans / "grey.tif", labels, tmp_path / "run", *TRAINING)
    assert alsiseg(*arguments).status == 0
    before = listing(tmp_path)
    refused(alsiseg(*arguments), "already holds a run", "--resume")
    refused(alsiseg(*arguments, "--resume", "--seed", "4"), "config.seed 0 -> 4")
    assert listing(tmp_path) == before
    assert alsiseg(*arguments, "--resume", "--epochs", "2").status == 0
    assert runs.read_history(tmp_path / "run")["epoch"].tolist() == [0, 1, 2]


def _write_bad(what: str, folder: Path, scans: Path) -> tuple[Path, Path]:
    """Write one bad scan or label volume and return the pair (grey, labels) to train on."""
    grey, labels = scans / "grey.tif", scans / "labels.tif"
    grey_zyx, labels_zyx = volumes.open(grey)[:], volumes.open(labels)[:]
    bad = folder / "bad.tif"
    if what == "other shape":
        return grey, volumes.write(bad, labels_zyx[:, :-1])
    if what == "other labels":
        return grey, volumes.write(bad, labels_zyx * 100)
    if what == "float labels":
        tifffile.imwrite(bad, labels_zyx.astype(np.float32), imagej=True, metadata={"axes": "ZYX"})
        return grey, bad
    if what == "few slices":
        return volumes.write(bad, grey_zyx[:29]), volumes.write(folder / "few.tif", labels_zyx[:29])
    if what == "narrow slices":
        return volumes.write(bad, grey_zyx[:, :20]), volumes.write(folder / "narrow.tif", labels_zyx[:, :20])
    if what == "empty folder":
        bad = folder / "empty"
        bad.mkdir()
    elif what == "gap in a folder":
        bad = folder / "gap"
        bad.mkdir()
        for z in (1, 2, 4):
            tifffile.imwrite(bad / f"{z}.tif", grey_zyx[z])
    elif what == "not a number":
        grey_zyx = grey_zyx.astype(np.float32)
        grey_zyx[7, 5, 5] = np.nan
        tifffile.imwrite(bad, grey_zyx, imagej=True, metadata={"axes": "ZYX"})
    elif what == "RGB":
        tifffile.imwrite(bad, np.zeros((*SHAPE_ZYX, 3), np.uint8), photometric="rgb")
    elif what == "truncated":
        bad.write_bytes(grey.read_bytes()[: grey.stat().st_size // 2])
    elif what == "ambiguous":
        tifffile.imwrite(bad, grey_zyx)
    elif what == "no TIFF":
        bad.write_text("grey values")
    elif what == "no contrast":
        volumes.write(bad, np.full_like(grey_zyx, 5))
    return bad, labels


BAD = {
    "other shape": ["same shape", "(36, 40, 48)", "(36, 39, 48)"],
    "other labels": ["labels must be 0 (matrix), 1 (silicon) and 2 (aluminide), found 0, 100, 200"],
    "float labels": ["labels must hold whole numbers", "float32"],
    "few slices": ["at least 30 slices, found 29"],
    "narrow slices": ["at least 32 x 32 pixels", "(20, 48)"],
    "empty folder": ["folder of TIFF slices, found none"],
    "gap in a folder": ["number 3 is missing"],
    "not a number": ["slice 8 of", "holds NaN"],
    "RGB": ["colour (RGB)"],
    "truncated": ["cut off"],
    "ambiguous": ["does not state which of its axes", "--axes"],
    "no TIFF": ["needs a readable TIFF"],
    "no contrast": ["needs a grey volume with contrast"],
    "missing": ["found nothing at"],
}


@pytest.mark.parametrize("what", BAD)
def test_training_refuses_bad_input_in_one_line_and_leaves_nothing(alsiseg, scans, tmp_path, what):
    grey, labels = _write_bad(what, tmp_path, scans)
    before = listing(tmp_path)
    refused(alsiseg("train", grey, labels, tmp_path / "new" / "run", *TRAINING), *BAD[what])
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "what",
    [
        "empty folder",
        "gap in a folder",
        "not a number",
        "RGB",
        "truncated",
        "ambiguous",
        "no TIFF",
        "no contrast",
        "missing",
    ],
)
def test_segmentation_refuses_bad_input_in_one_line_and_leaves_nothing(alsiseg, scans, tmp_path, what):
    grey, _ = _write_bad(what, tmp_path, scans)
    before = listing(tmp_path)
    refused(alsiseg("segment", grey, tmp_path / "new" / "out.tif", "--run", scans / "run"), *BAD[what])
    assert listing(tmp_path) == before


@pytest.mark.parametrize("what", ["other labels", "float labels", "truncated", "empty folder", "missing"])
def test_measuring_refuses_bad_labels_in_one_line_and_leaves_nothing(alsiseg, scans, tmp_path, what):
    pair = _write_bad(what, tmp_path, scans)
    labels = pair[1] if "labels" in what else pair[0]
    before = listing(tmp_path)
    refused(alsiseg("measure", labels, "--json", tmp_path / "m.json"), *BAD[what])
    refused(alsiseg("measure", scans / "labels.tif", "--truth", labels, "--json", tmp_path / "m.json"), *BAD[what])
    assert listing(tmp_path) == before


def test_measuring_compares_with_the_truth_and_writes_both_with_intervals(alsiseg, scans, tmp_path):
    truth_zyx = volumes.open(scans / "labels.tif")[:]
    truth_zyx[:18] = 0
    volumes.write(tmp_path / "truth.tif", truth_zyx, voxel_size_um=1.2)
    options = ["--min-voxels", 2, "--blocks", 8, "--level", 0.9, "--seed", 3, "--connectivity", 6, "--thickness"]
    out = ["--truth", tmp_path / "truth.tif", "--json", tmp_path / "m.json"]
    measured = alsiseg("measure", scans / "labels.tif", *out, *options)
    assert measured.status == 0, measured
    assert "90 % interval" in measured.out
    numbers = json.loads((tmp_path / "m.json").read_text())
    assert (numbers["connectivity"], numbers["min_voxels"], numbers["voxel_size_um"]) == (6, 2, 1.2)
    bootstrap = metrics.Bootstrap(n_blocks=8, level=0.9, seed=3)
    wanted = metrics.Options(connectivity=6, min_voxels=2, bootstrap=bootstrap, thickness=True)
    both = (volumes.open(path)[:] for path in (scans / "labels.tif", tmp_path / "truth.tif"))
    expected = metrics.as_json(metrics.measure(*both, voxel_size_um=1.2, options=wanted))
    assert {key: numbers[key] for key in expected} == json.loads(json.dumps(expected))
    quick = alsiseg("measure", scans / "labels.tif", "--no-intervals")
    assert (quick.status, "interval" in quick.out) == (0, False)


def test_a_voxel_size_that_is_wrong_or_contradicted_is_refused(alsiseg, scans, tmp_path):
    labels = scans / "labels.tif"
    volumes.write(tmp_path / "plain.tif", volumes.open(labels)[:])
    measured = alsiseg("measure", tmp_path / "plain.tif", "--voxel-size", 1.2, "--no-intervals")
    assert (measured.status, "mm3" in measured.out) == (0, True)
    refused(alsiseg("measure", tmp_path / "plain.tif", "--voxel-size", 0), "length above 0", "got 0")
    refused(alsiseg("measure", labels, "--voxel-size", 2.4), "states a voxel size of 1.2 um, got 2.4 um")
    volumes.write(tmp_path / "finer.tif", volumes.open(labels)[:], voxel_size_um=0.6)
    refused(alsiseg("measure", labels, "--truth", tmp_path / "finer.tif"), "one voxel size, got 0.6 and 1.2 um")
    refused(alsiseg("train", scans / "grey.tif", tmp_path / "finer.tif", tmp_path / "run", *TRAINING), "0.6 and 1.2")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--blocks", "5", ["n_blocks", "8 or more", "5"]),
        ("--level", "95", ["level", "between 0 and 1"]),
        ("--min-voxels", "0", ["--min-voxels", "0"]),
        ("--connectivity", "8", ["--connectivity", "8"]),
    ],
)
def test_options_of_measuring_that_mean_nothing_are_refused(alsiseg, scans, tmp_path, option, value, words):
    refused(alsiseg("measure", scans / "labels.tif", "--json", tmp_path / "m.json", option, value), *words)
    assert listing(tmp_path) == {}


def test_labels_that_are_not_a_number_are_refused(alsiseg, tmp_path):
    volume = np.full(SHAPE_ZYX, np.nan, dtype=np.float32)
    tifffile.imwrite(tmp_path / "nan.tif", volume, imagej=True, metadata={"axes": "ZYX"})
    refused(alsiseg("measure", tmp_path / "nan.tif"), "labels must hold whole numbers", "float32")


def test_labels_are_compared_with_labels_of_their_shape(alsiseg, scans, tmp_path):
    volumes.write(tmp_path / "short.tif", volumes.open(scans / "labels.tif")[:30])
    before = listing(tmp_path)
    arguments = ("measure", scans / "labels.tif", "--truth", tmp_path / "short.tif", "--json", tmp_path / "m.json")
    refused(alsiseg(*arguments), "same shape")
    assert listing(tmp_path) == before


def test_labelling_refuses_scans_that_do_not_fit(alsiseg, scans, tmp_path):
    volumes.write(tmp_path / "short.tif", volumes.open(scans / "grey.tif")[:30])
    before = listing(tmp_path)
    grey = scans / "grey.tif"
    refused(alsiseg("label", grey, grey, tmp_path / "short.tif", tmp_path / "new" / "out.tif"), "shape")
    assert listing(tmp_path) == before


def _unwritable(command: str, scans: Path, place: Path) -> list[object]:
    grey, labels, run_dir = _train_arguments(scans)
    return {
        "phantom": ["phantom", place / "s", "--shape", "16,16,16", "--angles", "4"],
        "label": ["label", grey, grey, grey, place / "out.tif"],
        "train": ["train", grey, labels, place / "run", *TRAINING],
        "segment": ["segment", grey, place / "out.tif", "--run", run_dir],
        "measure": ["measure", labels, "--json", place / "m.json"],
    }[command]


@pytest.mark.parametrize("command", ["phantom", "label", "train", "segment", "measure"])
def test_an_unwritable_output_is_said_in_one_line(alsiseg, scans, tmp_path, command):
    (tmp_path / "file").write_text("kept")
    before = listing(tmp_path)
    refused(alsiseg(*_unwritable(command, scans, tmp_path / "file")), "needs a place to write", "choose another")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("command", ["label", "segment"])
def test_an_output_that_is_no_tiff_is_refused_before_the_work(alsiseg, scans, tmp_path, command):
    grey, _, run_dir = _train_arguments(scans)
    inputs = [grey, grey, grey] if command == "label" else [grey]
    options = ["--run", run_dir] if command == "segment" else []
    refused(alsiseg(command, *inputs, tmp_path / "out.png", *options), ".tif")
    assert listing(tmp_path) == {}


def test_an_existing_output_is_kept_unless_said_otherwise(alsiseg, scans, tmp_path):
    arguments = ("segment", scans / "grey.tif", tmp_path / "out.tif", "--run", scans / "run", "--device", "cpu")
    (tmp_path / "out.tif").write_text("precious")
    refused(alsiseg(*arguments), "exists already", "--overwrite")
    assert (tmp_path / "out.tif").read_text() == "precious"
    assert alsiseg(*arguments, "--overwrite").status == 0
    assert volumes.open(tmp_path / "out.tif").shape == SHAPE_ZYX


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--colour"], ["No such option", "--colour"]),
        (["paint"], ["No such command", "paint"]),
        (["train"], ["Missing argument"]),
        (["train", "a.tif", "b.tif", "run", "--epoch", "3"], ["--epoch"]),
        (["train", "a.tif", "b.tif", "run", "--epochs", "0"], ["--epochs"]),
        (["train", "a.tif", "b.tif", "run", "--width", "wide"], ["--width"]),
        (["train", "a.tif", "b.tif", "run", "--weights", "1,2"], ["--weights", "3 numbers"]),
        (["train", "a.tif", "b.tif", "run", "--weights", "1,-1,2"], ["silicon weight", "above 0"]),
        (["train", "a.tif", "b.tif", "run", "--weights", "1,nan,2"], ["silicon weight"]),
        (["train", "a.tif", "b.tif", "run", "--seed", "-1"], ["seed"]),
        (["train", "a.tif", "b.tif", "run", "--directions", "z,up"], ["--directions", "needs some of z, y, x"]),
        (["train", "a.tif", "b.tif", "run", "--directions", "y,x"], ["directions must be z, to which"]),
        (["segment", "a.tif", "out.tif"], ["Missing option", "--run"]),
        (["segment", "a.tif", "out.tif", "--run", "no-run"], ["no-run", "train first"]),
        (["segment", "a.tif", "out.tif", "--run", "net.onnx"], ["net.onnx", "for other programs"]),
        (["measure", "labels.tif", "--axes", "ZZZ"], ["axes must name"]),
        (["phantom", "out", "--shape", "1,2"], ["--shape", "3 numbers"]),
        (["phantom", "out", "--shape", "1,2,x"], ["--shape"]),
        (["phantom", "out", "--shape", "4,16,16"], ["16"]),
        (["phantom", "out", "--shape", "16,16,16", "--seed", "-1"], ["seed"]),
        (["phantom", "out", "--shape", "16,16,16", "--angles", "0"], ["angles"]),
        (["phantom", "out", "--specimen", "warm"], ["warm", "slow"]),
        (["phantom", "out", "--voxel-size", "0"], ["voxel_size_um must be a positive length"]),
        (["phantom", "out", "--voxel-size", "small"], ["--voxel-size"]),
        (["phantom", "out", "--processes", "0"], ["n_processes must be 1 or more, got 0"]),
        (["phantom", "out", "--device", "cuda:99"], ["cuda:99", "not available"]),
        (["figures", "--profile", "huge"], ["profile", "huge"]),
        (["figures"], ["notebooks"]),
    ],
)
def test_a_mistake_on_the_command_line_is_said_in_one_line(alsiseg, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(alsiseg(*arguments), *words)
    assert listing(tmp_path) == {}


def test_directions_reach_the_training(alsiseg, scans, tmp_path):
    grey, labels, _ = _train_arguments(scans)
    arguments = ("train", grey, labels, tmp_path / "run", *TRAINING, "--directions", "z,y,x")
    refused(alsiseg(*arguments), "windows along y and x need at least", "train along z alone")


@pytest.mark.parametrize("option", ["--device", "--epoch"])
def test_a_device_or_epoch_that_is_not_there_is_refused(alsiseg, scans, tmp_path, option):
    value = "cuda:99" if option == "--device" else "77"
    arguments = ("segment", scans / "grey.tif", tmp_path / "out.tif", "--run", scans / "run", option, value)
    refused(alsiseg(*arguments), value)
    assert listing(tmp_path) == {}


def test_a_damaged_run_is_said_in_one_line(alsiseg, scans, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("settings.json", "truth.json"):
        (tmp_path / "run" / name).write_bytes((scans / "run" / name).read_bytes())
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir()
    for path in (scans / "run" / "checkpoints").iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[:-7])
    arguments = ("segment", scans / "grey.tif", tmp_path / "out.tif", "--run", tmp_path / "run")
    refused(alsiseg(*arguments), "damaged")
    (tmp_path / "run" / "settings.json").write_text('{"form')
    refused(alsiseg(*arguments), "settings.json", "damaged")
    assert not (tmp_path / "out.tif").exists()


def test_an_export_without_its_packages_is_refused_in_one_line(alsiseg, scans, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(alsiseg("export", scans / "run", tmp_path / "net.onnx"), "onnxscript", 'pip install "alsiseg[export]"')
    refused(alsiseg("export", scans / "run", tmp_path / "net.pt"), ".onnx or .safetensors")
    assert listing(tmp_path) == {}
    assert alsiseg("export", scans / "run", tmp_path / "net.safetensors").status == 0


def test_axes_are_said_once_for_files_that_do_not_state_them(alsiseg, scans, tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", volumes.open(scans / "labels.tif")[:].transpose(2, 1, 0))
    refused(alsiseg("measure", tmp_path / "plain.tif"), "--axes")
    measured = alsiseg("measure", tmp_path / "plain.tif", "--axes", "XYZ", "--json", tmp_path / "m.json")
    assert measured.status == 0
    expected = metrics.measure_networks(volumes.open(scans / "labels.tif")[:])
    assert (
        json.loads((tmp_path / "m.json").read_text())["networks"]["hybrid"]["n_voxels"] == expected["hybrid"].n_voxels
    )


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cli.commands, "main", broken)
    with pytest.raises(KeyError):
        cli.main()


def test_ctrl_c_ends_with_its_own_status(alsiseg, scans, tmp_path, monkeypatch):
    from alsiseg import training

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_epoch", stop)
    ended = alsiseg("train", *_train_arguments(scans)[:2], tmp_path / "run", *TRAINING)
    assert ended.status == 130
    last = ended.err.splitlines()[-1]
    assert last.startswith("alsiseg: stopped; every finished epoch is kept, go on with: alsiseg train ")
    assert last.endswith(" --resume")


def test_ctrl_c_during_a_scan_keeps_what_is_finished_for_the_next_call(alsiseg, tmp_path, monkeypatch):
    from alsiseg.phantom import imaging

    scan_slab = imaging.scan_slab

    def stop_at_the_last_scan(specimen: object, modality: str, *arguments: object, **options: object) -> object:
        if modality == "etched":
            raise KeyboardInterrupt
        return scan_slab(specimen, modality, *arguments, **options)  # type: ignore[arg-type]

    arguments = ("phantom", tmp_path / "s", "--shape", "16,32,32", "--angles", "8", "--voxel-size", "2.4")
    with monkeypatch.context() as patched:
        patched.setattr(imaging, "scan_slab", stop_at_the_last_scan)
        ended = alsiseg(*arguments)
    assert ended.status == 130
    assert ended.err.splitlines()[-1] == "alsiseg: stopped; what was finished is kept"
    slabs = {name for name in listing(tmp_path) if "slices" in name}
    assert len(slabs) == 2
    assert alsiseg(*arguments).status == 0
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "etched.tif",
        "lab_ct.tif",
        "specimen.json",
        "synchrotron.tif",
        "truth.tif",
        "variants.tif",
    ]
    assert volumes.open(tmp_path / "s" / "etched.tif").voxel_size_um == 2.4


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["train", "--help"], ["--version"]])
def test_help_and_version_end_well(alsiseg, arguments):
    ended = alsiseg(*arguments)
    assert ended.status == 0
    assert ended.out
    assert ended.err == ""


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    line = [sys.executable, "-m", "alsiseg", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALSISEG")}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_itself_says_bad_input_in_one_line(tmp_path):
    (tmp_path / "cut.tif").write_bytes(
        volumes.write(tmp_path / "v.tif", np.ones((9, 9, 9), np.uint8)).read_bytes()[:600]
    )
    before = listing(tmp_path)
    ended = command("measure", "cut.tif", "--json", "m.json", cwd=tmp_path)
    refused(Ended(ended.returncode, ended.stdout, ended.stderr), "cut off")
    assert listing(tmp_path) == before


def test_the_command_alone_shows_what_it_can_do(tmp_path):
    ended = command(cwd=tmp_path)
    text = ended.stdout + ended.stderr
    assert "Traceback" not in text
    assert "Commands:" in text
    assert "segment" in text
