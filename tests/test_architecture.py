import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import alsiseg

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "alsiseg"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# A room imports only from rooms with a lower number; CONTRIBUTING.md shows the same table.
LAYERS = {
    "phases": 0,
    "progress": 0,
    "volumes": 1,
    "weightmaps": 1,
    "topology": 1,
    "clusters": 1,
    "hashing": 1,
    "metrics": 2,
    "phantom": 2,
    "ground_truth": 2,
    "unet": 2,
    "loss": 2,
    "devices": 2,
    "dataset": 2,
    "baselines": 3,
    "runs": 3,
    "likeness": 4,
    "training": 4,
    "prediction": 4,
    "calibration": 5,
    "exporting": 5,
    "correcting": 5,
    "profiles": 5,
    "figures": 5,
    "viewer": 6,
    "claims": 6,
    "story": 6,
    "study": 7,
    "cli": 7,
    "plugin": 7,
}
ARRAY_ROOMS = (
    "phases",
    "progress",
    "clusters",
    "volumes",
    "weightmaps",
    "topology",
    "metrics",
    "phantom",
    "ground_truth",
    "baselines",
)
HEAVY = (
    "torch",
    "sklearn",
    "SimpleITK",
    "numba",
    "matplotlib",
    "napari",
    "porespy",
    "dask",
    "pyvista",
    "ipywidgets",
    "anywidget",
    "traitlets",
    "IPython",
    "nbformat",
    "zarr",
    "h5py",
)
ONLY_IN = {
    "tifffile": {"volumes"},
    "zarr": {"volumes"},
    "h5py": {"volumes"},
    "matplotlib": {"figures"},
    "napari": {"viewer", "plugin"},
    "qtpy": {"plugin"},
    "magicgui": {"plugin"},
    "ipywidgets": {"viewer"},
    "anywidget": {"viewer"},
    "traitlets": {"viewer"},
    "safetensors": {"runs"},
    "click": {"cli"},
    "lightning_fabric": {"training"},
    "tensorboard": {"training"},
    "onnx": {"exporting"},
    "onnxruntime": {"exporting"},
    "filelock": {"runs"},
}
COMPILED = {"bits", "kernels", "runs", "windows"}  # of topology and weightmaps, imported inside functions: numba
LARGEST_FILE_BYTES = 8 * 2**20
LONGEST_FILE_LINES = 400


def rooms() -> dict[str, list[Path]]:
    """Every room with its source files."""
    found = {path.stem: [path] for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    packages = (path.parent for path in PACKAGE.glob("*/__init__.py"))
    return found | {package.name: sorted(package.rglob("*.py")) for package in packages}


def imported_modules(source: str) -> Iterator[str]:
    """Full names of what a file imports anywhere, also inside functions, but not for type checkers only."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the room in full"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imported_rooms(source: str) -> set[str]:
    parts = [name.split(".") for name in imported_modules(source)]
    return {part[1] for part in parts if part[0] == "alsiseg" and len(part) > 1 and part[1] in rooms()}


def wrong_imports(room: str, source: str) -> set[str]:
    below = {other for other, layer in LAYERS.items() if layer < LAYERS[room]}
    return imported_rooms(source) - below - {room}


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return ended.stdout


def test_every_room_is_in_the_table():
    assert set(LAYERS) == set(rooms())


@pytest.mark.parametrize("room", sorted(rooms()))
def test_a_room_imports_only_from_rooms_below_it(room):
    wrong = {path.name: wrong_imports(room, path.read_text(encoding="utf-8")) for path in rooms()[room]}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_an_import_from_above_is_noticed_wherever_it_stands():
    hidden = "def f():\n    if True:\n        from alsiseg.cli import main\n"
    assert wrong_imports("topology", hidden) == {"cli"}
    assert wrong_imports("topology", "from alsiseg import phases, metrics") == {"metrics"}
    assert wrong_imports("topology", "import alsiseg.weightmaps") == {"weightmaps"}
    assert wrong_imports("metrics", "import alsiseg.weightmaps") == set()


def test_the_table_of_layers_is_the_one_in_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = dict.fromkeys(LAYERS)
    for layer, names in re.findall(r"^\| (\d)[^|]*\| ([^|]+)\|", text, flags=re.MULTILINE):
        for name in re.findall(r"`(\w+)/?`", names):
            table[name] = int(layer)
    shown = {name: layer for name, layer in table.items() if name in rooms()}
    assert shown == {name: layer for name, layer in LAYERS.items() if name in rooms()}


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_used_by_its_own_room_alone(library):
    users = {
        room
        for room, paths in rooms().items()
        for path in paths
        if any(name.split(".")[0] == library for name in imported_modules(path.read_text(encoding="utf-8")))
    }
    assert users <= ONLY_IN[library]


def test_no_room_is_a_cupboard():
    stems = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not stems & {"utils", "helpers", "common", "base", "manager", "misc"}


def test_files_stay_short():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE_LINES} == {}


@pytest.mark.parametrize("room", [None, *ARRAY_ROOMS])
def test_an_array_room_loads_nothing_heavy(room):
    paths = [path for path in rooms()[room] if path.stem not in COMPILED] if room else []
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    modules = [".".join(part).removesuffix(".__init__") for part in parts] or ["alsiseg"]
    code = f"import sys, {', '.join(modules)}; print(sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = set(ast.literal_eval(python(code)))
    assert "alsiseg" in loaded
    assert loaded & set(HEAVY) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_comes_without_loading_torch(arguments):
    code = (
        "import sys; from alsiseg import cli\n"
        f"sys.argv = ['alsiseg', *{arguments!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit: pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    *shown, loaded = python(code).splitlines()
    assert shown
    assert set(loaded.split()) & {*HEAVY, "numpy", "tifffile"} == set()


@pytest.mark.parametrize("room", sorted(rooms()))
def test_every_room_has_a_test_file(room):
    text = (ROOT / "tests" / f"test_{room}.py").read_text(encoding="utf-8")
    assert re.search(r"^def test_", text, flags=re.MULTILINE)


def code_cells(notebook: dict) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def is_nested_loop(node: ast.AST) -> bool:
    loops = (ast.For, ast.While)
    return isinstance(node, loops) and any(isinstance(n, loops) for n in ast.walk(node) if n is not node)


def test_there_are_ten_numbered_notebooks():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02d}_" for number in range(1, 11)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin_and_committed_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    for source in code_cells(notebook):
        assert len([line for line in source.splitlines() if line.strip()]) <= 10, source
        nodes = list(ast.walk(ast.parse(source)))
        definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not any(isinstance(node, definitions) for node in nodes), source
        assert not any(is_nested_loop(node) for node in nodes), source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_prose_and_explains_each_step_before_it(path):
    kinds = [cell["cell_type"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert kinds[0] == "markdown"
    assert all(before == "markdown" for before, kind in pairwise(kinds) if kind == "code")


def test_nothing_under_git_is_large():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    sizes = {path.name: path.stat().st_size for path in paths if path.is_file()}
    assert {name: size for name, size in sizes.items() if size > LARGEST_FILE_BYTES} == {}


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", text, flags=re.MULTILINE) == [alsiseg.__version__]


def package_names(requirements: list[str]) -> set[str]:
    found = [re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements]
    return {match.group().lower().replace("_", "-") for match in found if match}


def pyproject_packages() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    return package_names([*project["dependencies"], *extras])


def test_no_package_is_listed_twice():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    listed = package_names(re.findall(r"^\s+- ([A-Za-z][\w.-]*)", text, flags=re.MULTILINE))
    assert "python" in listed
    assert listed & (pyproject_packages() - {"alsiseg"}) == set()


def test_every_dependency_is_pinned():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = package_names(re.findall(r"^[\w.-]+(?===)", text, flags=re.MULTILINE))
    assert pyproject_packages() - pinned - {"alsiseg"} == set()
