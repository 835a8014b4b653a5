"""One JupyterLab and one browser for all tests here; where they cannot be had, the reason is said."""

import os
from collections.abc import Iterator
from pathlib import Path

import laboratory
import pytest

from alsiseg import phantom
from alsiseg.profiles import PROFILES

TINY = PROFILES["tiny"]


def pytest_collection_modifyitems(items):
    """Mark everything here as slow."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def do_without(reason: str) -> None:
    """Skip for a reason; where ALSISEG_NO_SKIP is set, as in CI, that is a failure."""
    (pytest.fail if os.environ.get("ALSISEG_NO_SKIP") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, without a window."""
    if reason := laboratory.missing_reason():
        do_without(reason)
    with laboratory.headless_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory) -> Iterator[laboratory.Server]:
    """A JupyterLab with the notebooks, the example scan and the scans that notebook 1 makes."""
    home = laboratory.furnish(tmp_path_factory.mktemp("home"))
    specimen = {"shape_zyx": TINY.slow_shape_zyx, "seed": TINY.specimen_seed, "n_angles": TINY.n_angles}
    phantom.make(home / "data" / "tiny" / "slow", specimen="slow", difficulty=TINY.difficulty, **specimen)
    with laboratory.jupyterlab(home, tmp_path_factory.mktemp("lab"), profile="tiny") as server:
        yield server


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory) -> Path:
    """Where pictures are kept."""
    folder = Path(os.environ.get("ALSISEG_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
