"""Which format a file has by its name, and whether its first bytes agree."""

from pathlib import Path

from alsiseg.volumes import zarrs

TIFF_SUFFIXES = (".tif", ".tiff")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx")
ZARR_SUFFIXES = (".zarr",)
_SUFFIXES = {"TIFF": TIFF_SUFFIXES, "HDF5": HDF5_SUFFIXES, "zarr": ZARR_SUFFIXES}
_SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"PK\3\4": "ZIP",
    b"\x93NUMPY": "NumPy",
    b"\x1f\x8b": "gzip",
}


def format_by_name(path: Path) -> str | None:
    """Return "TIFF", "HDF5" or "zarr" by the end of the name; None for another."""
    return next((kind for kind, suffixes in _SUFFIXES.items() if path.suffix.lower() in suffixes), None)


def format_of(path: Path) -> str:
    """Return "TIFF", "HDF5", "zarr" or "folder".

    Raises
    ------
    ValueError
        When the name says nothing, or says zarr of what is none.
    """
    if path.is_dir():
        if zarrs.is_zarr(path):
            return "zarr"
        if format_by_name(path) == "zarr":
            raise ValueError(f"needs a zarr folder, {path} holds no zarr.json, .zgroup or .zarray; copy it again")
        return "folder"
    kind = format_by_name(path)
    if kind is None or kind == "zarr":
        what = "is a file, and zarr a folder" if kind else "is named like none"
        raise ValueError(
            f"needs a TIFF file (.tif, .tiff), an HDF5 file (.h5, .hdf5, .hdf, .nxs, .nx), a folder of TIFF slices or "
            f"a zarr folder, {path} {what}; bare voxels need shape_zyx and dtype (--raw-shape, --raw-dtype)"
        )
    return kind


def check_named_alike(path: Path, kind: str) -> None:
    """Refuse a file whose first bytes are known as those of another format."""
    with path.open("rb") as file:
        start = file.read(8)
    found = next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), kind)
    if found != kind:
        suffixes = _SUFFIXES.get(found)
        advice = f"rename it to end in {suffixes[0]}" if suffixes else "convert it"
        raise ValueError(f"needs {kind}, as the name says, {path} holds {found}; {advice}")
