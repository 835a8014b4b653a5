"""A wheel in an empty environment outside the checkout does what the README says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("alsiseg", "pyproject.toml", "README.md", "LICENSE")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def run(*line: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of the checkout."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ALSISEG", "VIRTUAL"))
    }
    ended = subprocess.run(list(map(str, line)), cwd=cwd, env=inherited, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(map(str, line))}\n{ended.stdout}\n{ended.stderr}"
    return ended


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        (
            shutil.copytree(source, folder / name, ignore=ignored)
            if source.is_dir()
            else shutil.copy(source, folder / name)
        )
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "dist", ".", cwd=folder)
    (built,) = (folder / "dist").glob("alsiseg-*.whl")
    return built


@pytest.fixture(scope="module")
def bin_dir(wheel, tmp_path_factory) -> Path:
    """Programs of a new environment that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    bin_dir = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(bin_dir / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return bin_dir


def test_the_installed_wheel_makes_trains_segments_and_measures(bin_dir, tmp_path):
    where = run(bin_dir / "python", "-c", "import alsiseg; print(alsiseg.__file__)", cwd=tmp_path).stdout.strip()
    assert Path(where).is_relative_to(bin_dir.parent)
    assert "site-packages" in where

    alsiseg = bin_dir / "alsiseg"
    run(alsiseg, "phantom", "specimen", "--shape", "36,64,64", "--angles", "12", cwd=tmp_path)
    scan, truth = "specimen/synchrotron.tif", "specimen/truth.tif"
    options = ("--width", 2, "--epochs", 1, "--images-per-epoch", 8, "--batch", 4, "--device", "cpu")
    run(alsiseg, "train", scan, truth, "run", *options, cwd=tmp_path)
    run(alsiseg, "segment", scan, "labels.tif", "--run", "run", "--device", "cpu", cwd=tmp_path)
    measured = run(alsiseg, "measure", "labels.tif", "--truth", truth, "--json", "measures.json", cwd=tmp_path)
    numbers = json.loads((tmp_path / "measures.json").read_text())
    assert set(numbers["networks"]) == {"silicon", "aluminides", "hybrid"}
    assert 0 <= numbers["accuracy"] <= 1
    assert "accuracy" in measured.stdout


def test_the_wheel_holds_the_library_and_its_types_and_no_tests(wheel):
    from zipfile import ZipFile

    names = ZipFile(wheel).namelist()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "alsiseg").rglob("*.py")}
    assert sources <= set(names)
    assert "alsiseg/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("alsiseg/", "alsiseg-")) for name in names)
