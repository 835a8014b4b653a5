"""Every format that `volumes` opens, through the commands `segment` and `measure`, and the options that it needs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import distributed
import h5py
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from alsiseg import cli, dataset, metrics, prediction, runs, unet, viewer, volumes
from alsiseg.dataset import GreyScale
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (9, 24, 40)
RAW = ["--raw-shape", "9,24,40", "--raw-dtype"]


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli.commands, [str(argument) for argument in arguments])


def refused(ended: Result, *words: str) -> None:
    assert isinstance(ended.exception, ValueError | OSError | SystemExit), ended.exception
    said = ended.stderr if isinstance(ended.exception, SystemExit) else str(ended.exception)
    for word in words:
        assert word in said


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a run, and the labels that its network gives the grey volume."""
    folder = tmp_path_factory.mktemp("formats")
    runs.start(folder / "run", {}, {})
    network = unet.build(UNetConfig(stem_channels=2), seed=3)
    runs.save_network(folder / "run", network, GreyScale(0.0, 1.0, 1.0), 1)
    labels_zyx = prediction.segment(grey(), folder / "run", device="cpu")
    assert len(np.unique(labels_zyx)) == 3
    volumes.write(folder / "labels.tif", labels_zyx)
    return folder


def grey() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 60_000, SHAPE_ZYX).astype(np.uint16)


def plain_tiff(path: Path, array_zyx: NDArray) -> list[str]:
    tifffile.imwrite(path.with_suffix(".tif"), array_zyx.transpose(2, 1, 0))
    return [path.with_suffix(".tif"), "--axes", "XYZ", "--voxel-size", "1.2"]


def compressed_bigtiff(path: Path, array_zyx: NDArray) -> list[str]:
    options = {"bigtiff": True, "compression": "zlib", "byteorder": ">", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path.with_suffix(".tiff"), array_zyx, **options)
    return [path.with_suffix(".tiff"), "--voxel-size", "1.2"]


def ome_tiff(path: Path, array_zyx: NDArray) -> list[str]:
    sizes = {f"PhysicalSize{axis}": 1.2 for axis in "XYZ"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    tifffile.imwrite(path.with_suffix(".ome.tif"), array_zyx, metadata={"axes": "ZYX", **sizes})
    return [path.with_suffix(".ome.tif")]


def folder_of_slices(path: Path, array_zyx: NDArray) -> list[str]:
    path.mkdir()
    for z, slice_yx in enumerate(array_zyx):
        tifffile.imwrite(path / f"slice_{z}.tif", slice_yx)
    return [path, "--voxel-size", "1.2"]


def written(ending: str) -> Callable[[Path, NDArray], list]:
    def write(path: Path, array_zyx: NDArray) -> list:
        return [volumes.write(path.with_suffix(ending), array_zyx, voxel_size_um=1.2)]

    write.__name__ = f"written as {ending}"
    return write


def ome_zarr_04(path: Path, array_zyx: NDArray) -> list[str]:
    group = zarr.create_group(path.with_suffix(".zarr"), zarr_format=2)
    group.create_array("0", data=array_zyx)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.2, 1.2, 1.2]}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    return [path.with_suffix(".zarr")]


def plain_zarr(path: Path, array_zyx: NDArray) -> list[str]:
    zarr.create_array(path.with_suffix(".zarr"), data=array_zyx)
    return [path.with_suffix(".zarr"), "--axes", "ZYX", "--voxel-size", "1.2"]


def two_data_sets(path: Path, array_zyx: NDArray) -> list[str]:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["scan/first"], file["scan/second"] = np.zeros_like(array_zyx), array_zyx
    return [path.with_suffix(".h5"), "--dataset", "scan/second", "--axes", "ZYX", "--voxel-size", "1.2"]


def raw(path: Path, array_zyx: NDArray) -> list[str]:
    array_zyx.tofile(path.with_suffix(".raw"))
    return [path.with_suffix(".raw"), *RAW, array_zyx.dtype.name, "--voxel-size", "1.2"]


def big_endian_raw_behind_a_header(path: Path, array_zyx: NDArray) -> list[str]:
    swapped = array_zyx.astype(array_zyx.dtype.newbyteorder(">"))
    path.with_suffix(".vol").write_bytes(b"a header" + swapped.tobytes())
    options = [*RAW, f">u{array_zyx.dtype.itemsize}", "--raw-offset", "8", "--voxel-size", "1.2"]
    return [path.with_suffix(".vol"), *options]


FORMATS = [
    plain_tiff,
    compressed_bigtiff,
    ome_tiff,
    folder_of_slices,
    *(written(ending) for ending in (".tif", ".zarr", ".h5", ".nxs")),
    ome_zarr_04,
    plain_zarr,
    two_data_sets,
    raw,
    big_endian_raw_behind_a_header,
]


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_every_format_is_segmented_and_measured(place, tmp_path, make):
    source, *options = make(tmp_path / "grey", grey())
    out = tmp_path / "out.tif"
    ended = command("segment", source, out, "--run", place / "run", "--device", "cpu", *options)
    assert ended.exit_code == 0, ended.exception
    labels, expected_zyx = volumes.open(out), volumes.open(place / "labels.tif")[:]
    np.testing.assert_array_equal(labels[:], expected_zyx)
    assert labels.voxel_size_um == pytest.approx(1.2, rel=1e-3)
    source, *options = make(tmp_path / "phases", expected_zyx)
    ended = command("measure", source, *options, "--no-intervals", "--json", tmp_path / "m.json")
    assert ended.exit_code == 0, ended.exception
    numbers = json.loads((tmp_path / "m.json").read_text())
    assert numbers["voxel_size_um"] == pytest.approx(1.2, rel=1e-3)
    for name, measure in metrics.measure_networks(expected_zyx).items():
        assert numbers["networks"][name]["euler_number"] == measure.euler_number


@pytest.mark.parametrize("ending", [".tif", ".zarr", ".h5", ".nxs"])
def test_labels_are_written_in_every_format(place, tmp_path, ending):
    source = volumes.write(tmp_path / "grey.tif", grey(), voxel_size_um=1.2)
    out = tmp_path / f"out{ending}"
    ended = command("segment", source, out, "--run", place / "run", "--device", "cpu")
    assert ended.exit_code == 0, ended.exception
    np.testing.assert_array_equal(volumes.open(out)[:], volumes.open(place / "labels.tif")[:])


def test_candidates_are_listed_when_a_file_holds_several_volumes(place, tmp_path):
    source, *_ = two_data_sets(tmp_path / "grey", grey())
    words = "more than one three-dimensional data set", "--dataset", "/scan/first (9, 24, 40)", "/scan/second"
    refused(command("segment", source, tmp_path / "out.tif", "--run", place / "run"), *words)
    refused(command("measure", source), *words)
    refused(command("measure", source, "--dataset", "scan/third"), "no data set 'scan/third'", "/scan/second")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["bare voxels need"]),
        (["--raw-shape", "9,24,40"], ["--raw-shape and --raw-dtype", "give both"]),
        (["--raw-dtype", "u2"], ["--raw-shape and --raw-dtype"]),
        (["--raw-offset", "8"], ["--raw-shape and --raw-dtype"]),
        ([*RAW, "float32"], ["has 17280 bytes, but (9, 24, 40) voxels of float32 after 0 bytes need 34560"]),
        ([*RAW, "short stories"], ["dtype must name a type of voxel"]),
        ([*RAW, "u2", "--raw-offset", "-1"], ["--raw-offset"]),
        (["--raw-shape", "9,24", "--raw-dtype", "u2"], ["--raw-shape", "3 numbers"]),
        ([*RAW, "u2", "--axes", "XYZ"], ["states its axes as ZYX, got axes XYZ"]),
        ([*RAW, "u2", "--dataset", "scan"], ["dataset names a part of an HDF5 or zarr volume"]),
        ([*RAW, "u2", "--voxel-size", "0"], ["length above 0 um"]),
        ([*RAW, "u2", "--voxel-size", "1.2", "--voxel-size", "1.2"], ["--voxel-size may be said once per volume"]),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(place, tmp_path, options, words):
    source, *_ = raw(tmp_path / "grey", grey())
    refused(command("segment", source, tmp_path / "out.tif", "--run", place / "run", *options), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["grey.raw"]


def test_options_hold_for_the_first_volume_and_said_again_for_the_next(place, tmp_path):
    labels_zyx = volumes.open(place / "labels.tif")[:]
    first, *options = raw(tmp_path / "first", labels_zyx)
    same = command("measure", first, *options, "--truth", place / "labels.tif", "--no-intervals")
    assert same.exit_code == 0, same.exception
    assert "100.00 %" in same.stdout
    second, *others = big_endian_raw_behind_a_header(tmp_path / "second", labels_zyx.astype(np.uint16))
    others = [option for option in others if option not in ("--voxel-size", "1.2")]
    refused(command("measure", first, *options, "--truth", second, "--no-intervals"), "bare voxels need")
    both = command("measure", first, *options, "--raw-offset", 0, "--truth", second, *others, "--no-intervals")
    assert both.exit_code == 0, both.exception
    assert "100.00 %" in both.stdout


def test_what_a_second_volume_states_stands_and_its_unstated_axes_are_those_of_the_first(place, tmp_path):
    labels_zyx = volumes.open(place / "labels.tif")[:]
    first, *options = plain_tiff(tmp_path / "first", labels_zyx)
    stated = volumes.write(tmp_path / "stated.zarr", labels_zyx, voxel_size_um=1.2)
    unstated, *_ = plain_tiff(tmp_path / "unstated", labels_zyx)
    for truth in (stated, unstated):
        ended = command("measure", first, *options, "--truth", truth, "--no-intervals")
        assert ended.exit_code == 0, ended.exception
        assert "100.00 %" in ended.stdout
    coarser = volumes.write(tmp_path / "coarser.tif", labels_zyx, voxel_size_um=2.4)
    refused(command("measure", first, *options, "--truth", coarser), "needs one voxel size, got 1.2 and 2.4 um")


def test_voxel_sizes_that_formats_round_otherwise_are_one(place, tmp_path):
    labels_zyx = volumes.open(place / "labels.tif")[:]
    paths = [volumes.write(tmp_path / f"labels{end}", labels_zyx, voxel_size_um=1.1 / 3) for end in (".tif", ".nxs")]
    assert volumes.open(paths[0]).voxel_size_um != volumes.open(paths[1]).voxel_size_um
    ended = command("measure", paths[0], "--truth", paths[1], "--no-intervals")
    assert ended.exit_code == 0, ended.exception


def test_three_raw_scans_are_labelled_with_options_said_once(place, tmp_path, monkeypatch):
    from alsiseg import ground_truth

    seen = []

    def stop(*scans: NDArray, **_: object) -> None:
        seen.extend(scans)
        raise ValueError("seen")

    monkeypatch.setattr(ground_truth, "label_scans", stop)
    scans = [grey() + number for number in range(3)]
    paths = [raw(tmp_path / f"scan_{number}", scan)[0] for number, scan in enumerate(scans)]
    refused(command("label", *paths, tmp_path / "out.tif", *RAW, "uint16"), "seen")
    for found, scan in zip(seen, scans, strict=True):
        np.testing.assert_array_equal(found, scan)


def test_a_window_shows_every_volume_with_its_own_options(place, tmp_path, monkeypatch):
    shown = {}

    def show(scan_zyx: NDArray, layers: dict[str, NDArray], *, voxel_size_um: float | None) -> None:
        shown.update(grey=scan_zyx, size=voxel_size_um, **layers)

    monkeypatch.setattr(viewer, "show_napari", show)
    labels_zyx = volumes.open(place / "labels.tif")[:]
    scan, *options = raw(tmp_path / "grey", grey())
    others = []
    for name in "ab":
        (tmp_path / name).mkdir()
        others.append(volumes.write(tmp_path / name / "labels.tif", labels_zyx, voxel_size_um=1.2))
    ended = command("view", scan, *others, place / "labels.tif", *options)
    assert ended.exit_code == 0, ended.exception
    np.testing.assert_array_equal(np.asarray(shown["grey"]), grey())
    assert shown["size"] == pytest.approx(1.2)
    assert [name for name in shown if name.startswith("labels")] == ["labels 1", "labels 2", "labels 3"]


@pytest.mark.parametrize("name", ["segment", "measure"])
def test_a_scheduler_that_does_not_answer_is_named(place, tmp_path, monkeypatch, name):
    monkeypatch.setattr("alsiseg.clusters.SECONDS_TO_ANSWER", 1)
    source = volumes.write(tmp_path / "grey.tif", grey())
    inputs = [source, tmp_path / "out.tif", "--run", place / "run"] if name == "segment" else [place / "labels.tif"]
    refused(command(name, *inputs, "--scheduler", "tcp://127.0.0.1:9"), "tcp://127.0.0.1:9")


def test_workers_of_a_scheduler_give_the_same_labels_and_numbers(place, tmp_path):
    source = volumes.write(tmp_path / "grey.tif", grey(), voxel_size_um=1.2)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        scheduler = "--scheduler", cluster.scheduler_address
        ended = command("segment", source, tmp_path / "out.zarr", "--run", place / "run", "--device", "cpu", *scheduler)
        assert ended.exit_code == 0, ended.exception
        np.testing.assert_array_equal(volumes.open(tmp_path / "out.zarr")[:], volumes.open(place / "labels.tif")[:])
        far = command("measure", tmp_path / "out.zarr", *scheduler)
        assert far.exit_code == 0, far.exception
    assert "on 1 worker with cpu" in ended.stderr
    near = command("measure", tmp_path / "out.zarr")
    assert far.stdout == near.stdout


def test_segmenting_warns_of_a_scan_unlike_the_one_learned_from(place, tmp_path):
    source = volumes.write(tmp_path / "grey.tif", grey(), voxel_size_um=1.2)
    arguments = "segment", source, tmp_path / "out.tif", "--run", place / "run", "--device", "cpu"
    ended = command(*arguments)
    assert ended.exit_code == 0, ended.exception
    first, second = ended.stderr.splitlines()[:2]
    assert first.startswith("alsiseg: 9 x 24 x 40 voxels on cpu")
    assert second.startswith("alsiseg: warning: ")
    assert "warning" not in command(*arguments).stderr  # refused, because the output exists


def test_a_scan_that_cannot_be_compared_is_segmented_with_a_warning(place, tmp_path):
    statistics = asdict(dataset.grey_statistics(grey()))
    runs.start(tmp_path / "run", {"likeness": statistics}, {})
    shutil.copytree(place / "run" / "checkpoints", tmp_path / "run" / "checkpoints")
    source = volumes.write(tmp_path / "narrow.tif", grey()[:, :2])
    ended = command("segment", source, tmp_path / "out.tif", "--run", tmp_path / "run", "--device", "cpu")
    assert ended.exit_code == 0, ended.exception
    assert "warning: the scan cannot be compared with the one learned from (needs slices of 3 x 3" in ended.stderr
    source = volumes.write(tmp_path / "same.tif", grey())
    ended = command("segment", source, tmp_path / "same_out.tif", "--run", tmp_path / "run", "--device", "cpu")
    assert (ended.exit_code, "warning" in ended.stderr) == (0, False)


@pytest.mark.parametrize("name", ["label", "train", "segment", "measure", "view", "export"])
def test_every_command_that_opens_volumes_has_the_same_options(name):
    shown = command(name, "--help").stdout
    for option in ("--axes", "--dataset", "--voxel-size", "--raw-shape", "--raw-dtype", "--raw-offset"):
        assert option in shown
