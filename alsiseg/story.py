"""The notebooks as one story: where they read and write, and how they are run in order."""

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

from alsiseg.profiles import Profile, chosen
from alsiseg.volumes import written_whole
from alsiseg.weightmaps import PixelWeights

DRAWN_FROM_RUNS = ("06_loss_curves", "07_accuracy", "08_topology", "09_second_volume")
REDRAWN = ("01_ground_truth", *DRAWN_FROM_RUNS)  # which makes the specimen
SECONDS_BETWEEN_LINES = 15  # in a log; in a terminal one line is redrawn in place


@dataclass(frozen=True)
class Page:
    """Where a notebook reads and writes.

    Attributes
    ----------
    profile : Profile
        From the variable ALSISEG_PROFILE ("quick" when it is not set).
    home : Path
        The folder that holds `notebooks`, `data` and `figures`; from ALSISEG_HOME when that is set.
    """

    profile: Profile
    home: Path

    @property
    def data_dir(self) -> Path:
        """Volumes and runs of this profile."""
        return self.home / "data" / self.profile.name

    @property
    def figures_dir(self) -> Path:
        """Pictures, and the numbers behind them."""
        return self.home / "figures"

    def specimen_dir(self, specimen: str) -> Path:
        """Return the folder of the scans of "slow" or "fast"."""
        return self.data_dir / specimen

    def run_dir(self, weights: PixelWeights) -> Path:
        """Return the run folder of one weight setting."""
        return self.data_dir / "runs" / _run_name(weights)

    def record_dir(self, weights: PixelWeights) -> Path:
        """Return where the record of the reference run of one weight setting is kept, should there be one."""
        return self.home / "data" / "reference" / self.profile.name / _run_name(weights)

    def finished_run_dir(self, weights: PixelWeights) -> Path:
        """Return the run folder that figures are drawn from: one's own, or the reference run's record.

        A line says so when it is the record.
        """
        if not self.takes_record(weights):
            return self.run_dir(weights)
        print(f"weights ({weights}): not trained here, from the record of the reference run")
        return self.record_dir(weights)

    def takes_record(self, weights: PixelWeights) -> bool:
        """Whether there is a record of the reference run, and no run of one's own."""
        return self.record_dir(weights).exists() and not self.run_dir(weights).exists()


def _run_name(weights: PixelWeights) -> str:
    return f"weights_{weights.matrix:g}_{weights.silicon:g}_{weights.interface:g}"


def open_page() -> Page:
    """Open a notebook's page: its profile and folders, and errors in one sentence.

    A mistake that the reader can mend (a missing file, labels of another shape) is shown as the sentence
    that says so, without the stack of calls.
    """
    _show_errors_in_one_line()
    here = Path.cwd()
    home = os.environ.get("ALSISEG_HOME") or (here.parent if here.name == "notebooks" else here)
    return Page(chosen(), Path(home).resolve())


def mendable(error: BaseException) -> bool:
    """Whether `error` is a sentence for the user: raised on purpose by alsiseg, or by the file system."""
    if isinstance(error, OSError | FloatingPointError):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_here = trace is not None and Path(trace.tb_frame.f_code.co_filename).parent.is_relative_to(
        Path(__file__).parent
    )
    return raised_here and isinstance(error, ValueError | TypeError | ImportError)


def _show_errors_in_one_line() -> None:
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None:
        return

    def show(
        shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: int | None = None
    ) -> list[str]:
        if not mendable(error):
            shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
            return []
        print(f"alsiseg: {error}", file=sys.stderr)
        return []

    shell.set_custom_exc((ValueError, TypeError, OSError, ImportError, FloatingPointError), show)


def tell(
    notebooks_dir: Path,
    home: Path,
    profile: Profile,
    *,
    up_to: str | None = None,
    only: Container[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[str]:
    """Run the numbered notebooks in order, `only` those named if given; return the names of those that had to run.

    What is up to date (same notebook, same library, same profile, outputs untouched) is not run again; a
    stopped call therefore continues where it was. The executed notebooks are kept under
    ``data/PROFILE/notebooks``.

    Raises
    ------
    RuntimeError
        When a cell fails; the message names the notebook and the error.
    """
    page = Page(profile, home.resolve())
    numbered = [path for path in sorted(notebooks_dir.glob("[0-9][0-9]_*.ipynb")) if path.stem <= (up_to or "~")]
    notebooks = [path for path in numbered if only is None or path.stem in only]
    if not notebooks:
        raise FileNotFoundError(f"needs the numbered notebooks, found none in {notebooks_dir}")
    to_run = [path for path in notebooks if not _is_up_to_date(path, page)]
    clock = _Clock([path.stem for path in notebooks], _expected_seconds(page), say or _StatusLine())
    for path in notebooks:
        if path not in to_run:
            clock.skip(path.stem)
    for path in to_run:
        clock.begin(path.stem)
        before = time.time()
        _execute(path, page, clock)
        if path.stem in DRAWN_FROM_RUNS and any(map(page.takes_record, profile.weight_settings)):
            _stamp_path(path, page).unlink(missing_ok=True)  # to be drawn anew once there are runs
        else:
            _write_stamp(path, page, before)
        clock.end(path.stem)
    return [path.stem for path in to_run]


def _execute(path: Path, page: Page, clock: "_Clock") -> None:
    """Run one notebook in a fresh kernel and keep the executed copy, also when a cell fails."""
    try:
        import nbformat
        from jupyter_core.utils import ensure_async
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
    except ImportError as error:
        message = 'running the notebooks needs Jupyter, which is not installed here; pip install "alsiseg[notebooks]"'
        raise ImportError(message) from error

    class Reader(NotebookClient):
        def process_message(self, msg: dict, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] == "stream":
                clock.say(msg["content"]["text"])
            return super().process_message(msg, cell, cell_index)

    notebook = nbformat.read(path, as_version=4)
    os.environ |= {"ALSISEG_PROFILE": page.profile.name, "ALSISEG_HOME": str(page.home)}
    client = Reader(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    client.coalesce_streams = True
    client.extra_arguments = ["--log-level=40"]  # errors only: the kernel's start-up warnings are not the reader's

    def stop_kernel() -> None:
        if client.km is not None:
            asyncio.run(ensure_async(client.km.shutdown_kernel(now=True)))

    try:
        _run_until_done(lambda: asyncio.run(client.async_execute()), stop=stop_kernel)
    except CellExecutionError as error:
        raise RuntimeError(f"{path.name} stopped: {error.evalue} ({error.ename})") from error
    except DeadKernelError as error:
        raise RuntimeError(f"{path.name} stopped: its kernel died, perhaps for lack of memory") from error
    finally:
        with written_whole(_executed(path, page)) as unfinished:
            nbformat.write(notebook, unfinished)


def _run_until_done(work: Callable[[], Any], *, stop: Callable[[], Any]) -> None:
    """Do `work` in a thread, so that Ctrl-C reaches this one; nbclient would take it and go on."""
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    worker = Thread(target=attempt, daemon=True)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(0.2)
    except KeyboardInterrupt:
        stop()
        worker.join(5)
        raise
    if errors:
        raise errors[0]


def _executed(path: Path, page: Page) -> Path:
    return page.data_dir / "notebooks" / path.name


def _fingerprint(path: Path, page: Page) -> str:
    """Checksum of everything a notebook's result depends on, but its inputs' values (they follow from it)."""
    digest = hashlib.sha256(repr(page.profile).encode())
    for source in [path, *sorted(Path(__file__).parent.rglob("*.py"))]:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _stamp_path(path: Path, page: Page) -> Path:
    return _executed(path, page).with_suffix(".json")


def _is_up_to_date(path: Path, page: Page) -> bool:
    stamp_path = _stamp_path(path, page)
    if not stamp_path.is_file():
        return False
    stamp = json.loads(stamp_path.read_text())
    written = {name: _mark(page.home / name) for name in stamp["written"]}
    return stamp["fingerprint"] == _fingerprint(path, page) and written == stamp["written"]


def _write_stamp(path: Path, page: Page, since: float) -> None:
    folders = [page.figures_dir, page.data_dir]
    files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*") if file.is_file()]
    ours = [file for file in files if file.stat().st_mtime >= since and file.parent.name not in ("notebooks", "resume")]
    stamp = {
        "fingerprint": _fingerprint(path, page),
        "seconds": round(time.time() - since, 1),
        "written": {str(file.relative_to(page.home)): _mark(file) for file in ours},
    }
    with written_whole(_stamp_path(path, page)) as unfinished:
        unfinished.write_text(json.dumps(stamp, indent=2) + "\n")


def _mark(file: Path) -> str | None:
    """Tell a file's content apart: by checksum where small, by size where large."""
    if not file.is_file():
        return None
    size = file.stat().st_size
    return hashlib.sha256(file.read_bytes()).hexdigest() if size < 4_000_000 else f"{size} bytes"


def _expected_seconds(page: Page) -> dict[str, float]:
    """Seconds each notebook took last time on this machine, else when the reference figures were made."""
    reference = page.figures_dir / "timings.json"
    expected = json.loads(reference.read_text()).get(page.profile.name, {}) if reference.is_file() else {}
    for stamp in (page.data_dir / "notebooks").glob("*.json"):
        expected[stamp.stem] = json.loads(stamp.read_text())["seconds"]
    return expected


def keep_records(home: Path, profile: Profile) -> list[Path]:
    """Keep what Figs. 4-7 are drawn from, for those who do not train; of networks that of Fig. 7, the last one."""
    from alsiseg import runs

    page, last = Page(profile, home.resolve()), profile.weight_settings[-1]
    return [
        runs.keep_record(
            page.run_dir(weights), page.record_dir(weights), profile.reported_epoch, with_network=weights == last
        )
        for weights in profile.weight_settings
    ]


def write_timings(home: Path, profile: Profile) -> Path:
    """Write how long each notebook took here, for the reference set in `figures`."""
    page = Page(profile, home.resolve())
    path = page.figures_dir / "timings.json"
    timings = json.loads(path.read_text()) if path.is_file() else {}
    timings[profile.name] = dict(sorted(_expected_seconds(page).items()))
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(timings, indent=2) + "\n")
    return path


class _Clock:
    """Say what is running, how far the story is and about how long it has left."""

    def __init__(self, names: list[str], expected_s: dict[str, float], say: Callable[[str], None]) -> None:
        self.names, self.expected_s, self._say = names, expected_s, say
        self.left = list(names)
        self.spent_s = self.spent_expected_s = 0.0
        self.started = time.monotonic()
        self.current = ""

    def skip(self, name: str) -> None:
        self.left.remove(name)
        self._say(f"[{self.names.index(name) + 1}/{len(self.names)}] {name}: up to date")

    def begin(self, name: str) -> None:
        self.current, self.started = name, time.monotonic()
        self._line(name, "starting")

    def say(self, text: str) -> None:
        lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
        if lines:
            self._line(self.current, lines[-1])

    def end(self, name: str) -> None:
        seconds = time.monotonic() - self.started
        self.left.remove(name)
        self.spent_s += seconds
        self.spent_expected_s += self.expected_s.get(name, seconds)
        self._line(name, f"done in {seconds:.0f} s")

    def _line(self, name: str, what: str) -> None:
        number = self.names.index(name) + 1
        self._say(f"[{number}/{len(self.names)}] {name}{self._time_left()}: {what}")

    def _time_left(self) -> str:
        """Expected seconds of what is left, scaled by how this machine has done so far."""
        if not self.left or any(name not in self.expected_s for name in self.left):
            return ""
        pace = self.spent_s / self.spent_expected_s if self.spent_expected_s else 1.0
        running_s = time.monotonic() - self.started if self.current in self.left else 0.0
        left_s = max(pace * sum(self.expected_s[name] for name in self.left) - running_s, 0.0)
        return f" (about {left_s / 60:.0f} min left)" if left_s > 90 else f" (about {left_s:.0f} s left)"


class _StatusLine:
    """One line redrawn in a terminal; in a log a line at every change of notebook and every few seconds."""

    def __init__(self) -> None:
        self.last_written, self.last_name = 0.0, ""

    def __call__(self, text: str) -> None:
        name, what = text.split(":", 1)
        if sys.stderr.isatty():
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            ends = "\n" if what.strip().startswith(("done", "up to date")) else ""
            print(f"\r\x1b[K{text[: width - 1]}", end=ends, file=sys.stderr, flush=True)
        elif (
            name.split(" (")[0] != self.last_name
            or what.strip().startswith(("done", "up to date"))
            or (time.monotonic() - self.last_written > SECONDS_BETWEEN_LINES)
        ):
            print(text, file=sys.stderr, flush=True)
            self.last_written, self.last_name = time.monotonic(), name.split(" (")[0]
