"""Where a run is: a folder, a network that was exported as safetensors, or the name of one that comes with alsiseg."""

from importlib import resources
from pathlib import Path

SETTINGS = "settings.json"
SHIPPED = Path(str(resources.files("alsiseg") / "pretrained"))  # a run folder of each network, named after it
NETWORK_SUFFIX = ".safetensors"


def located(run: str | Path) -> Path:
    """Find a run by its path, or by the name of a network that comes with alsiseg.

    A path that exists is taken as it is: a folder of one's own hides a network that comes along.

    Parameters
    ----------
    run
        A run folder, a .safetensors file that `exporting.export` wrote, or a name among `shipped`.

    Raises
    ------
    FileNotFoundError
        When it is none of them; the message lists the names.
    ValueError
        For an ONNX file, which is for other programs.
    """
    path = Path(run)
    if path.suffix == ".onnx":
        raise ValueError(
            f"needs a run folder or a network as {NETWORK_SUFFIX}, got {path}, which is for other programs; export it "
            f"as {path.with_suffix(NETWORK_SUFFIX).name}"
        )
    if path.exists():
        return path
    if str(path) in shipped():
        return shipped()[str(path)]
    raise FileNotFoundError(
        f"needs a run folder or the name of a network that comes with alsiseg ({', '.join(shipped()) or 'none'}), "
        f"found neither under {str(path)!r}; choose one that is there, or train first"
    )


def shipped() -> dict[str, Path]:
    """Run folders of the networks that come with alsiseg, by name."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{SETTINGS}"))}


def name_of(run_dir: Path) -> str | None:
    """Name of a run that comes with alsiseg; None for any other."""
    return next((name for name, path in shipped().items() if path == run_dir), None)


def header_of(run: Path) -> Path:
    """Where a run says what it is: `settings.json` of the folder, or the JSON beside an exported network."""
    return run.with_suffix(".json") if run.suffix == NETWORK_SUFFIX and not run.is_dir() else run / SETTINGS
