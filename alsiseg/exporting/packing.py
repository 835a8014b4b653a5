"""The networks that come with alsiseg: a run folder without its large parts, with a model card in it."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alsiseg import runs, volumes
from alsiseg.exporting.cards import VALIDATION, as_json, card_of
from alsiseg.exporting.text import as_markdown
from alsiseg.runs import Trained
from alsiseg.runs.files import write_json

CARD_JSON, CARD_MD = "card.json", "card.md"
COPIED = ("history.csv", "accuracy_per_slice.csv", "truth.json")


def pack(
    run_dir: str | Path,
    out: str | Path,
    *,
    epoch: int | None = None,
    specimens: Iterable[Mapping[str, Any]] = (),
    validation: Iterable[Mapping[str, Any]] = (),
    epoch_chosen_by: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Make a small run folder of a large one: settings, histories, one network and its model card.

    What is left out are the labels of the test section, other networks, and the state to resume from: it can be
    used and corrected, not continued.

    Parameters
    ----------
    run_dir
        The run folder, which stays as it is.
    out
        The new folder; its name is that of the network.
    epoch
        A kept epoch; the last one unless given.
    specimens
        What it learned from, a record each, where the run does not say it: `casting`, `difficulty`, `seed`,
        `shape_zyx`, `voxel_size_um`.
    validation
        What was measured on other specimens, a record each: those entries, `recipe`, `accuracy`,
        `interface_accuracy` (0..1), and `networks` as in a model card.
    epoch_chosen_by
        How the epoch was chosen, in words.
    overwrite
        Whether a folder of that name may be replaced.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        When the folder exists, or the run is damaged.
    OSError
        When there is no such run or epoch, or nothing can be written there.
    """
    out, trained = Path(out), runs.load_network(run_dir, epoch)
    volumes.check_place(out / CARD_MD)
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists already; choose another name or say --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as place:
        small = Path(place) / out.name
        added = {"specimens": list(map(dict, specimens)) or None, "epoch_chosen_by": epoch_chosen_by}
        _fill(small, trained, added, list(map(dict, validation)))
        shutil.rmtree(out, ignore_errors=True)
        small.rename(out)
    return out


def _fill(small: Path, trained: Trained, added: dict[str, Any], validation: list[Any]) -> None:
    """Write the files of a small run folder, the card last: it is made of what the others say."""
    known = {name: value for name, value in added.items() if value is not None}
    write_json(small / "settings.json", runs.read_settings(trained.run_dir) | known)
    for name in COPIED:
        if (trained.run_dir / name).is_file():
            shutil.copyfile(trained.run_dir / name, small / name)
    runs.save_network(small, trained.network, trained.grey_scale, trained.epoch)
    if validation:
        write_json(small / VALIDATION, {"rows": validation})
    card = card_of(runs.load_network(small))
    (small / CARD_JSON).write_text(as_json(card), encoding="utf-8")
    (small / CARD_MD).write_text(as_markdown(card), encoding="utf-8")


def summary(name: str) -> str:
    """Say in a line what a network that comes with alsiseg is: size, what it learned from, how often it was right."""
    folder = runs.located(name)
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    card = json.loads((folder / CARD_JSON).read_text(encoding="utf-8"))
    found = [row["accuracy"] for row in card["validation"] or []]
    specimens, size_um = card["data"]["specimens"] or [], card["data"]["voxel_size_um"]
    parts = [
        f"{card['network']['n_parameters']:,} parameters, {n_bytes / 1e6:.1f} MB",
        f"voxels of {size_um:g} um" if size_um else "",
        f"learned from {len(specimens)} synthetic specimens" if specimens else "",
        f"{100 * min(found):.1f} to {100 * max(found):.1f} % of the voxels right on others" if found else "",
    ]
    return ", ".join(part for part in parts if part)
