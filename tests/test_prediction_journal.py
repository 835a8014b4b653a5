"""A segmentation that is stopped, killed or damaged is continued to the same bytes, or refused in one sentence."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alsiseg import prediction, runs, unet, volumes
from alsiseg.dataset import GreyScale
from alsiseg.prediction import planning, tasks
from alsiseg.prediction.journal import folder_of
from alsiseg.prediction.options import Options
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (21, 40, 56)
N_SLABS = 6  # of four slices, the last of one


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    monkeypatch.setattr(planning, "SLAB_VOXELS", {"cpu": 4 * 40 * 56})


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a scan and a run."""
    random = np.random.default_rng(0)
    volumes.write(tmp_path / "grey.tif", random.integers(0, 60_000, SHAPE_ZYX).astype(np.uint16), voxel_size_um=1.2)
    for name, seed in (("run", 3), ("other", 4)):
        runs.start(tmp_path / name, {}, {})
        network = unet.build(UNetConfig(stem_channels=2), seed=seed)
        runs.save_network(tmp_path / name, network, GreyScale(0.0, 1.0, 1.0), 1)
    return tmp_path


def segment(place: Path, *, run: str = "run", scan: str = "grey.tif", **options) -> Path:
    grey = volumes.open(place / scan)
    return prediction.segment_to_file(grey, place / run, place / "labels.tif", device="cpu", **options)


def expected(place: Path) -> bytes:
    grey = volumes.open(place / "grey.tif")
    out = prediction.segment_to_file(grey, place / "run", place / "whole" / "labels.tif", device="cpu")
    return out.read_bytes()


def stopped_after(n_slabs: int, place: Path, monkeypatch, error: type[BaseException] = KeyboardInterrupt, **options):
    """Stop a segmentation when its journal holds `n_slabs` slabs."""
    slab_maps = tasks.slab_maps

    def stopping(task, finished):
        for number, slab in enumerate(slab_maps(task, finished)):
            if number == n_slabs:
                raise error
            yield slab

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "slab_maps", stopping)
        with pytest.raises(error):
            segment(place, **options)


def journal_lines(place: Path) -> list[dict]:
    text = (folder_of(place / "labels.tif") / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def computed_slabs(monkeypatch) -> list[range]:
    """Watch which slabs the network sees."""
    seen: list[range] = []
    maps = tasks._SlabWork.maps

    def watched(work):
        seen.append(work.slab.core)
        return maps(work)

    monkeypatch.setattr(tasks._SlabWork, "maps", watched)
    return seen


@pytest.mark.parametrize("n_slabs", [1, 3, 5])
def test_a_stopped_segmentation_is_continued_without_computing_a_slab_again(place, monkeypatch, n_slabs):
    whole = expected(place)
    stopped_after(n_slabs, place, monkeypatch)
    assert not (place / "labels.tif").exists()
    assert len(journal_lines(place)) == n_slabs
    seen = computed_slabs(monkeypatch)
    assert segment(place).read_bytes() == whole
    assert [z.start for z in seen] == list(range(4 * n_slabs, 21, 4))
    assert not folder_of(place / "labels.tif").exists()


def test_a_stop_before_the_first_slab_leaves_nothing(place, monkeypatch):
    before = sorted(place.iterdir())
    stopped_after(0, place, monkeypatch)
    assert sorted(place.iterdir()) == before


def test_a_stop_while_the_file_is_written_is_continued_without_the_network(place, monkeypatch):
    whole = expected(place)
    with monkeypatch.context() as patched:
        patched.setattr(volumes, "put_in_place", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            segment(place)
    seen = computed_slabs(monkeypatch)
    assert segment(place).read_bytes() == whole
    assert seen == []


def test_a_stop_just_after_a_line_was_written_keeps_its_slab(place, monkeypatch):
    whole = expected(place)
    journal = folder_of(place / "labels.tif") / "journal.jsonl"
    fsync = os.fsync

    def interrupted(descriptor):
        fsync(descriptor)
        if journal.exists() and journal.stat().st_size > 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segment(place)
    seen = computed_slabs(monkeypatch)
    assert segment(place).read_bytes() == whole
    assert len(seen) == N_SLABS - 1


@pytest.mark.parametrize("byte", [0, 40 * 56 * 4 + 17])
def test_a_damaged_slab_is_not_accepted(place, monkeypatch, byte):
    whole = expected(place)
    stopped_after(4, place, monkeypatch)
    raw = folder_of(place / "labels.tif") / "labels.raw"
    content = bytearray(raw.read_bytes())
    content[byte] ^= 1
    raw.write_bytes(content)
    seen = computed_slabs(monkeypatch)
    assert segment(place).read_bytes() == whole
    assert [z.start for z in seen] == [byte // (40 * 56 * 4) * 4, 16, 20]


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_a_line_that_was_cut_off_does_not_count(place, monkeypatch, cut):
    whole = expected(place)
    stopped_after(3, place, monkeypatch)
    journal = folder_of(place / "labels.tif") / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    seen = computed_slabs(monkeypatch)
    assert segment(place).read_bytes() == whole
    assert [z.start for z in seen] == [8, 12, 16, 20]


def test_a_missing_or_short_file_of_voxels_is_made_again(place, monkeypatch):
    whole = expected(place)
    stopped_after(3, place, monkeypatch)
    (folder_of(place / "labels.tif") / "labels.raw").write_bytes(b"\0" * 100)
    seen = computed_slabs(monkeypatch)
    assert segment(place).read_bytes() == whole
    assert len(seen) == N_SLABS


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"run": "other"}, "network sha256"),
        ({"scan": "another.tif"}, "scan sha256"),
        ({"options": Options(symmetries=True)}, "symmetries False -> True"),
        ({"options": Options(precision="float32")}, "precision auto -> float32"),
        ({"uncertainty": "doubt.tif"}, "uncertainty False -> True"),
    ],
)
def test_what_was_begun_with_other_settings_is_refused_in_one_sentence(place, monkeypatch, changed, what):
    grey_zyx = volumes.open(place / "grey.tif")[:]
    grey_zyx[3, 3, 3] ^= 1
    volumes.write(place / "another.tif", grey_zyx)
    stopped_after(2, place, monkeypatch)
    kept = (folder_of(place / "labels.tif") / "journal.jsonl").read_bytes()
    if "uncertainty" in changed:
        changed = {"uncertainty": place / changed["uncertainty"]}
    with pytest.raises(ValueError, match="other settings") as refused:
        segment(place, **changed)
    assert what in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (folder_of(place / "labels.tif") / "journal.jsonl").read_bytes() == kept
    assert segment(place, **changed, overwrite=True).exists()


def test_the_plan_of_the_first_call_is_kept(place, monkeypatch):
    whole = expected(place)
    stopped_after(2, place, monkeypatch)
    monkeypatch.setattr(planning, "SLAB_VOXELS", {"cpu": 40 * 56 * 7})
    seen = computed_slabs(monkeypatch)
    assert segment(place).read_bytes() == whole
    assert [len(z) for z in seen] == [4, 4, 4, 1]


def test_damaged_settings_are_said_in_one_sentence(place, monkeypatch):
    stopped_after(2, place, monkeypatch)
    settings = folder_of(place / "labels.tif") / "settings.json"
    settings.write_text(settings.read_text()[:50])
    with pytest.raises(ValueError, match="is damaged; remove"):
        segment(place)


def test_a_file_that_exists_is_replaced_only_when_asked_for(place):
    (place / "labels.tif").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        segment(place)
    assert (place / "labels.tif").read_text() == "mine"
    assert volumes.open(segment(place, overwrite=True)).shape == SHAPE_ZYX


COMMAND = """
import sys
from pathlib import Path
from alsiseg import prediction, volumes
from alsiseg.prediction import planning
planning.SLAB_VOXELS = {"cpu": 4 * 40 * 56}
place = Path(sys.argv[1])
options = prediction.Options(precision=sys.argv[2])
prediction.segment_to_file(volumes.open(place / "grey.tif"), place / "run", place / "labels.tif", device="cpu",
                           options=options, uncertainty=place / "doubt.tif", say=lambda text: print(text, flush=True))
"""


def child(place: Path) -> subprocess.Popen:
    line = [sys.executable, "-c", COMMAND, str(place), "float32"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed_when(child: subprocess.Popen, place: Path, n_lines: int) -> int:
    """Kill a segmentation as soon as its journal has so many lines; return how many it has in the end."""
    journal = folder_of(place / "labels.tif") / "journal.jsonl"
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= n_lines:
            child.kill()
            break
        time.sleep(0.001)
    child.communicate()
    return journal.read_bytes().count(b"\n") if journal.exists() else N_SLABS


@pytest.mark.slow
def test_a_killed_process_is_continued_to_the_same_bytes(place):
    finals = [place / "labels.tif", place / "doubt.tif"]
    process = child(place)
    _, err = process.communicate()
    assert process.returncode == 0, err
    whole = [path.read_bytes() for path in finals]
    for n_lines in (0, 1, 4, 6):
        for path in finals:
            path.unlink()
        process = child(place)
        kept = killed_when(process, place, n_lines)
        assert kept >= n_lines
        if kept < N_SLABS:
            assert process.returncode == -signal.SIGKILL
            assert not (place / "labels.tif").exists()
        for path in finals:
            path.unlink(missing_ok=True)  # it may have come that far
        process = child(place)
        out, err = process.communicate()
        assert process.returncode == 0, err
        if 0 < kept < N_SLABS:
            assert f"{kept} were finished before" in out
        assert [path.read_bytes() for path in finals] == whole
        assert not folder_of(finals[0]).exists()
        assert not folder_of(finals[1]).exists()


def test_two_processes_do_not_write_the_same_output(place, monkeypatch):
    stopped_after(2, place, monkeypatch)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys, time\nf = open(sys.argv[1], 'a')\n"
         "fcntl.flock(f, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)",
         str(folder_of(place / "labels.tif") / "journal.jsonl")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process"):
            segment(place)
    finally:
        holder.kill()
        holder.communicate()
    assert segment(place).exists()


@pytest.mark.skipif(os.name != "posix", reason="needs limits of a process")
def test_a_disk_that_refuses_is_said_in_one_sentence_and_continued(place):
    """A limit on the size of files makes the system refuse to write, as a full disk does."""
    whole = expected(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(OSError, match="needs a working disk") as refused:
            segment(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert not (place / "labels.tif").exists()
    assert segment(place).read_bytes() == whole


def test_a_disk_without_room_is_refused_before_the_work(place, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(prediction.files.shutil, "disk_usage", lambda _: Usage)
    before = sorted(place.iterdir())
    with pytest.raises(OSError, match=r"of disk for .* found 1 MiB; make room"):
        segment(place)
    assert sorted(place.iterdir()) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_read_only_folder_is_refused(place):
    place.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="no permission"):
            segment(place)
    finally:
        place.chmod(0o755)
