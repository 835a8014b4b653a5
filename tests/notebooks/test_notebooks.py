"""Every notebook runs from top to bottom in the tiny profile, and the story continues where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alsiseg import story
from alsiseg.profiles import PROFILES

pytest.importorskip("nbclient", reason="the notebooks need the extra 'notebooks'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
FIGURES = {
    "01_ground_truth": ["fig1"],
    "03_weight_maps": ["fig3"],
    "04_network": ["fig2"],
    "06_loss_curves": ["fig4"],
    "07_accuracy": ["fig5"],
    "08_topology": ["fig6", "figS1", "figS3"],
    "09_second_volume": ["fig7"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def tell(home: Path, up_to: str | None = None) -> list[str]:
    return story.tell(NOTEBOOKS, home, PROFILES["tiny"], up_to=up_to, say=lambda line: None)


def test_there_are_ten_notebooks():
    assert len(NAMES) == 10


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_leaves_its_figures(home: Path, name: str):
    assert name in tell(home, up_to=name)

    for figure in FIGURES.get(name, []):
        assert (home / "figures" / f"{figure}.png").stat().st_size > 10_000
        assert (home / "figures" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert list((home / "figures").glob(f"{figure}.[cj]s*"))
    executed = json.loads((home / "data" / "tiny" / "notebooks" / f"{name}.ipynb").read_text())
    code = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]


def test_a_second_call_reuses_everything_and_a_lost_figure_is_made_again(home: Path):
    tell(home)
    assert tell(home) == []

    (home / "figures" / "fig3.png").unlink()
    assert tell(home) == ["03_weight_maps"]
    assert (home / "figures" / "fig3.png").is_file()


def test_a_changed_figure_of_another_profile_is_made_again(home: Path):
    tell(home)
    (home / "figures" / "fig2.csv").write_text("from another profile\n")
    assert tell(home) == ["04_network"]


def test_figures_are_redrawn_from_the_records_without_training(home: Path, tmp_path: Path):
    tell(home)
    for record in story.keep_records(home, PROFILES["tiny"]):
        assert not (record / "resume").exists()
    shutil.copytree(home / "data" / "reference", tmp_path / "data" / "reference")

    ran = story.tell(NOTEBOOKS, tmp_path, PROFILES["tiny"], only=story.REDRAWN, say=lambda line: None)

    assert ran == list(story.REDRAWN)
    assert not (tmp_path / "data" / "tiny" / "runs").exists()
    for name in ("fig4.csv", "fig4.png", "fig5.csv", "fig5.png", "fig6.csv"):
        assert (tmp_path / "figures" / name).read_bytes() == (home / "figures" / name).read_bytes()
    measured = [
        json.loads((place / "figures" / "fig7.json").read_text())["second volume"] for place in (tmp_path, home)
    ]
    assert measured[0] == measured[1]


def run_figures(home: Path, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "alsiseg", "figures", "--profile", "tiny", "--home", str(home)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_an_interrupted_call_continues(home: Path, tmp_path: Path):
    (tmp_path / "notebooks").symlink_to(NOTEBOOKS)
    (tmp_path / "data").mkdir()
    # A shell without job control starts background commands with SIGINT ignored; a terminal does not.
    first = run_figures(
        tmp_path, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "data" / "tiny" / "slow" / "truth.tif").exists():
        assert first.poll() is None, first.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 130, errors
    assert "Traceback" not in errors

    made = (tmp_path / "data" / "tiny" / "slow" / "truth.tif").stat().st_mtime_ns
    ran = story.tell(NOTEBOOKS, tmp_path, PROFILES["tiny"], up_to="01_ground_truth", say=lambda line: None)
    assert ran == ["01_ground_truth"]
    assert (tmp_path / "data" / "tiny" / "slow" / "truth.tif").stat().st_mtime_ns == made


def test_a_failing_notebook_is_named_with_its_error(tmp_path: Path):
    cells = [
        {
            "cell_type": "code",
            "id": "a",
            "metadata": {},
            "source": "from alsiseg import story, volumes\nstory.open_page()\nvolumes.open('missing.tif')",
            "execution_count": None,
            "outputs": [],
        }
    ]
    (tmp_path / "notebooks").mkdir()
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "notebooks" / "01_broken.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(RuntimeError, match=r"01_broken.ipynb stopped: .*missing.tif"):
        story.tell(tmp_path / "notebooks", tmp_path, PROFILES["tiny"], say=lambda line: None)
    executed = json.loads((tmp_path / "data" / "tiny" / "notebooks" / "01_broken.ipynb").read_text())
    (shown,) = executed["cells"][0]["outputs"]
    assert shown["name"] == "stderr"
    assert "".join(shown["text"]).startswith("alsiseg: needs a volume")
    assert len("".join(shown["text"]).splitlines()) == 1
