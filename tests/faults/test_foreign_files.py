"""Damaged, foreign and hostile files of a run: refused, nothing in them run, nothing outside the folder opened."""

import io
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from killable import TINY

from alsiseg import runs, unet
from alsiseg.runs import files as files_of_runs

pytestmark = pytest.mark.slow
N_FLIPS = 400
PICKLED = ("as it is", "in a zip, as torch does")


@pytest.fixture
def run_dir(whole, tmp_path) -> Path:
    return shutil.copytree(whole.run_dir, tmp_path / "run")


def resumed_epoch(run_dir: Path) -> int:
    network = unet.build(TINY.unet, seed=9)
    return runs.load_state(run_dir, network, torch.optim.Adam(network.parameters(), amsgrad=True))


def refusal_of(read: Callable[[], object]) -> str:
    """The one sentence with which something is refused; empty when it is not."""
    sentence = ""
    try:
        read()
    except ValueError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return sentence


def damages(content: bytes, random: np.random.Generator) -> Iterator[bytes]:
    """Flip bits anywhere and in the first bytes, which say how long the rest is; cut anywhere."""
    places = [*random.integers(0, len(content), N_FLIPS // 2), *random.integers(0, 64, N_FLIPS // 2)]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << random.integers(8)
        yield bytes(flipped)
    for length in [0, 1, 8, *random.integers(9, len(content) - 1, N_FLIPS // 8), len(content) - 1]:
        yield content[:length]


def test_flipped_bits_and_cut_ends_of_a_network_are_refused(run_dir, capsys):
    path = run_dir / "checkpoints" / "epoch_0002.safetensors"
    for damaged in (both := list(damages(path.read_bytes(), np.random.default_rng(1)))):
        path.write_bytes(damaged)
        assert "missing or damaged" in refusal_of(lambda: runs.load_network(run_dir, 2))
    with capsys.disabled():
        print(f"\n{len(both)} damaged networks refused")


def test_flipped_bits_and_cut_ends_of_the_last_state_give_way_to_the_one_before(run_dir, capsys):
    n_damaged, random = 0, np.random.default_rng(2)
    for name in ("epoch_0002.safetensors", "epoch_0002.json"):
        path = run_dir / "resume" / name
        whole = path.read_bytes()
        for damaged in list(damages(whole, random))[::7]:
            path.write_bytes(damaged)
            n_damaged += 1
            assert resumed_epoch(run_dir) == (2 if reads_the_same(path, whole) else 1)
        path.write_bytes(whole)
    capsys.readouterr()
    with capsys.disabled():
        print(f"\n{n_damaged} damaged states gave way to the one before")


def test_damaged_weights_with_the_right_checksum_are_refused_or_are_other_weights(run_dir, capsys):
    path, n_refused = run_dir / "checkpoints" / "epoch_0002.safetensors", 0
    header = files_of_runs.read_json(path.with_suffix(".json"))
    for damaged in (both := list(damages(path.read_bytes(), np.random.default_rng(3)))[::2]):
        path.write_bytes(damaged)
        files_of_runs.write_json(path.with_suffix(".json"), header | {"sha256": files_of_runs._digest(path)})
        n_refused += bool(refusal_of(lambda: runs.load_network(run_dir, 2)))
    assert n_refused > len(both) / 4
    with capsys.disabled():
        print(f"\n{len(both)} damaged networks with the right checksum: {n_refused} refused, the others other weights")


def reads_the_same(path: Path, whole: bytes) -> bool:
    """Whether a JSON file says the same as before: the last line break, or the name of the checksum, was damaged."""
    if path.suffix != ".json" or refusal_of(lambda: files_of_runs.read_json(path)):
        return False
    meant, found = json.loads(whole), files_of_runs.read_json(path)
    return all(found[name] == value for name, value in meant.items() if name != files_of_runs.CHECKSUM)


class Hostile:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def pickled(mark: Path, how: str) -> bytes:
    content = pickle.dumps({"network": Hostile(mark)})
    if how == PICKLED[0]:
        return content
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    return packed.getvalue()


def test_the_hostile_pickle_would_act_if_it_were_loaded(tmp_path):
    pickle.loads(pickled(tmp_path / "mark", PICKLED[0]))
    assert (tmp_path / "mark").is_dir()


@pytest.mark.parametrize("how", PICKLED)
@pytest.mark.parametrize("folder", ["checkpoints", "resume"])
def test_pickled_weights_are_refused_and_do_not_act_even_with_the_right_checksum(run_dir, tmp_path, folder, how):
    for path in (run_dir / folder).glob("*.safetensors"):
        path.write_bytes(pickled(tmp_path / "mark", how))
        header = path.with_suffix(".json")
        digest = files_of_runs._digest(path)
        files_of_runs.write_json(header, files_of_runs.read_json(header) | {"sha256": digest})
    read = (lambda: runs.load_network(run_dir, 2)) if folder == "checkpoints" else (lambda: resumed_epoch(run_dir))
    assert "is not a safetensors file" in refusal_of(read)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("how", PICKLED)
def test_pickles_in_place_of_any_other_file_are_refused_and_do_not_act(run_dir, tmp_path, how):
    names = ["settings.json", "truth.json", "history.csv", "accuracy_per_slice.csv", "test/truth.tif"]
    names += ["checkpoints/epoch_0002.json", "test/epoch_0002.tif"]
    for name in names:
        path = run_dir / name
        content = path.read_bytes()
        path.write_bytes(pickled(tmp_path / "mark", how))
        assert refusal_of(lambda: read_everything(run_dir)), name
        path.write_bytes(content)
    read_everything(run_dir)
    assert not (tmp_path / "mark").exists()


def read_everything(run_dir: Path) -> None:
    for read in (runs.read_settings, runs.read_truth, runs.read_history, runs.read_accuracy_per_slice):
        read(run_dir)
    runs.load_network(run_dir, 2)
    runs.read_test(run_dir, 2)
    resumed_epoch(run_dir)


_opened: list[Path] = []


def _note_opening(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.append(Path(os.fsdecode(arguments[0])))


sys.addaudithook(_note_opening)


@contextmanager
def opening_only_below(folder: Path) -> Iterator[None]:
    """Fail when a file outside of `folder` is opened, other than those of Python's own."""
    _opened.clear()
    yield
    own = tuple({sys.prefix, sys.base_prefix, str(Path(runs.__file__).parent.parent), "/proc", "/sys", "/dev"})
    outside = [path for path in _opened if not path.resolve().is_relative_to(folder)]
    assert [path for path in outside if not str(path).startswith(own)] == []


TRAVERSING = ["../../secret", "/etc/passwd", "../checkpoints/epoch_0002", "epoch_0002", "0002/../../../secret"]


@pytest.mark.parametrize("name", ["epoch", "sha256", "format", "unet", "grey_scale", "run", "file", "path"])
def test_names_of_files_in_a_header_open_nothing_outside_the_run(run_dir, tmp_path, name, capsys):
    (tmp_path / "secret.safetensors").write_bytes((run_dir / "checkpoints" / "epoch_0002.safetensors").read_bytes())
    for folder in ("checkpoints", "resume"):
        path = run_dir / folder / "epoch_0002.json"
        header = files_of_runs.read_json(path)
        for value in TRAVERSING:
            files_of_runs.write_json(path, header | {name: value})
            with opening_only_below(run_dir):
                refusal_of(lambda: runs.load_network(run_dir, 2))
                refusal_of(lambda: resumed_epoch(run_dir))
        files_of_runs.write_json(path, header)
