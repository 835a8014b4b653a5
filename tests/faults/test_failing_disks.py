"""A disk that is full or fails at any call of a training that writes, then works again."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from killable import SPECIMEN, Ended, contents, train_to_the_end, two_at_a_time

from alsiseg import volumes

pytestmark = pytest.mark.slow


def fault_at(call: int) -> str:
    """A full disk at one call, a failing one at the next: calls of a kind are many, and meet both."""
    return ("ENOSPC", "EIO")[call % 2]


def is_a_sentence(ended: Ended) -> bool:
    """Whether the command would end with one line that names the file and what to do."""
    parts = ("needs a", ", found", "; ")
    return (
        ended.error == "OSError"
        and ended.mendable
        and "\n" not in ended.sentence
        and all(part in ended.sentence for part in parts)
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the name of an open file is read from /proc")
def test_every_file_is_flushed_before_it_gets_its_name_and_its_folder_after(whole):
    calls = [tuple(call) for call in whole.ended.calls]
    renamed = [index for index, (kind, _) in enumerate(calls) if kind == "rename"]
    assert len(renamed) > 20
    for index in renamed:
        name = calls[index][1]
        assert name.startswith(".partial-")
        assert calls[index - 1] == ("fsync", name)
        assert calls[index + 1] in [("fsync", folder) for folder in ("run", "resume", "checkpoints", "test")]


def test_a_disk_that_fails_at_any_call_ends_a_training_with_a_sentence_and_costs_nothing(whole, tmp_path, capsys):
    def attempt(at: int) -> str:
        """What went wrong, if anything."""
        run_dir = tmp_path / f"run-{at}"
        ended, again = train_to_the_end(run_dir, at=at, fault=fault_at(at)), train_to_the_end(run_dir)
        # What names the holder of the lock or takes its file away, and a folder that is there already, cost nothing.
        of_lock = calls[at - 1][1] in (".run.training", whole.run_dir.parent.name)
        unnoticed = of_lock and not ended.signal and not ended.error
        right = (unnoticed or is_a_sentence(ended)) and not again.error and contents(run_dir) == whole.contents
        shutil.rmtree(run_dir)
        return "" if right else f"{at} {calls[at - 1]} {fault_at(at)}: {ended.error} {ended.sentence} {again.sentence}"

    calls = whole.ended.calls
    wrong = [problem for problem in two_at_a_time(attempt, range(1, 1 + len(calls))) if problem]
    kinds = Counter(f"{fault_at(at)} at {kind}" for at, (kind, _) in enumerate(calls, start=1))
    with capsys.disabled():
        print(
            f"\n{len(calls)} trainings whose disk failed ({', '.join(f'{n} {k}' for k, n in sorted(kinds.items()))}); "
            f"{len(calls) - len(wrong)} of {len(calls)} ended with a sentence or unharmed, and led to the same bytes"
        )
    assert wrong == []


def test_a_real_limit_of_the_file_size_ends_a_training_with_a_sentence(whole, tmp_path, capsys):
    sizes = sorted({path.stat().st_size for path in whole.run_dir.rglob("*") if path.is_file()})
    limits = [0, *(size - 1 for size in sizes)]

    def attempt(limit: int) -> None:
        run_dir = tmp_path / f"run-{limit}"
        ended = train_to_the_end(run_dir, largest_file_bytes=limit)
        assert is_a_sentence(ended), (limit, ended)
        assert "file too large" in ended.sentence
        assert train_to_the_end(run_dir).error == ""
        assert contents(run_dir) == whole.contents

    two_at_a_time(attempt, limits)
    with capsys.disabled():
        print(f"\n{len(limits)} trainings with a real limit of the file size, all resumed to the same bytes")


# The disk of 320 kB is one in memory, in a namespace of its own, where an ordinary user may mount one.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=320k small "$1" || exit 77
shift
"$@" --resume 2> ended.txt; echo $? > status.txt
mount -o remount,size=64m small run && "$@" --resume && cp -r run resumed
"""


def test_a_disk_that_is_really_full_ends_the_command_with_one_line_and_costs_nothing(tmp_path, capsys):
    for name, volume in zip(("grey.tif", "labels.tif"), SPECIMEN, strict=True):
        volumes.write(tmp_path / name, volume[:30, :32, :32])
    options = ["--epochs", "1", "--width", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "alsiseg", "train", "grey.tif", "labels.tif", "run", *options]
    (tmp_path / "run").mkdir()
    unshared = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh", "run"]
    if shutil.which("unshare") is None or not run_in(tmp_path, [*unshared, *command]):
        pytest.skip("no disk can be mounted here")
    run_in(tmp_path, command)
    assert (tmp_path / "status.txt").read_text() == "2\n"
    (line,) = [line for line in (tmp_path / "ended.txt").read_text().splitlines() if line.startswith("alsiseg: ")]
    assert "no space left on device" in line
    assert contents(tmp_path / "resumed") == contents(tmp_path / "run")
    with capsys.disabled():
        print(f"\na training on a full disk ended with {line!r}\nand was resumed to the same bytes")


def run_in(folder: Path, command: list[str]) -> bool:
    """Run a command; False when it could not mount its disk."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    refused = ended.returncode == 77 or "unshare" in ended.stderr
    assert refused or ended.returncode == 0, ended.stderr
    return not refused
