"""Bring a run folder in order: before a run is continued, and after every epoch."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from alsiseg.runs.files import FORMAT, numbered, read_header, write_json
from alsiseg.runs.histories import HISTORY, BestEpochs, as_table, best_epochs, read_history, read_table, restore
from alsiseg.runs.histories import topology_error as topology_errors
from alsiseg.runs.networks import (
    drop_older_states,
    last_whole_state,
    network_of_state,
    remove,
    save_network,
    vouched_tables,
)
from alsiseg.runs.records import discard_unfinished, read_settings


def extend(run_dir: Path, settings: dict[str, Any]) -> None:
    """Bring the folder to its last whole state and enter how many epochs it is to have, and which are kept.

    A run of a version that did not record what its scan looks like gets that entry now.

    What a stop left unfinished goes: partial files, rows and states later than the last whole one. Rows
    that are not those recorded are restored, with a line that says so.

    Raises
    ------
    ValueError
        When the run cannot be continued exactly: no state is whole, or it is of another run.
    """
    discard_unfinished(run_dir)
    epoch = last_whole_state(run_dir)
    if epoch < 0:
        _check_nothing_trained(run_dir)
    else:
        _return_to(run_dir, epoch)
    before = read_settings(run_dir)
    config = before["config"] | {key: settings["config"][key] for key in ("epochs", "kept_every")}
    added = {key: settings[key] for key in ("likeness",) if key in settings and key not in before}
    if added or config != before["config"]:
        write_json(run_dir / "settings.json", before | {"config": config} | added)
    record_best(run_dir)


def _check_nothing_trained(run_dir: Path) -> None:
    history = run_dir / HISTORY
    if history.is_file() and len(read_table(history)) > 2:  # the names and the untrained network
        raise ValueError(f"needs a state to continue from, {run_dir} has trained epochs but none in resume; restore it")


def _return_to(run_dir: Path, epoch: int) -> None:
    """Undo what is later than the state of an epoch, and what is not as recorded."""
    for folder in (run_dir / "resume", run_dir / "checkpoints"):
        complete = numbered(folder)
        for later in (e for e in complete if e > epoch):
            if folder.name == "resume" or _is_only_while_best(complete[later]):
                remove(folder, later)
        for unfinished in set(numbered(folder, ".safetensors")) - set(complete):
            remove(folder, unfinished)
    drop_older_states(run_dir, epoch)
    for name, lines in vouched_tables(run_dir, epoch).items():
        if restore(run_dir / name, as_table(lines)):
            tqdm.write(f"{run_dir / name} was not what the run recorded; restored up to epoch {epoch}")


def record_best(run_dir: Path) -> BestEpochs | None:
    """Keep the networks of the best epochs and write `best.json`; to be called after `save_state`.

    A network that is no longer of a best epoch is removed, unless `save_network` kept it for good.

    Returns
    -------
    BestEpochs or None
        None while no epoch was trained.
    """
    if not (run_dir / HISTORY).is_file() or len(read_history(run_dir)["epoch"]) < 2:
        return None
    best, kept = best_epochs(run_dir), numbered(run_dir / "checkpoints")
    for epoch in {best.accuracy, best.topology} - set(kept):
        if (found := network_of_state(run_dir, epoch)) is not None:
            save_network(run_dir, *found, epoch, only_while_best=True)
    _write_best(run_dir, best)
    for epoch in set(kept) - {best.accuracy, best.topology}:
        if _is_only_while_best(kept[epoch]):
            remove(run_dir / "checkpoints", epoch)
    return best


def _write_best(run_dir: Path, best: BestEpochs) -> None:
    accuracy = {"epoch": best.accuracy, "accuracy": float(read_history(run_dir)["accuracy"][best.accuracy])}
    topology = {"epoch": best.topology, "topology_error": float(topology_errors(run_dir)[best.topology])}
    write_json(run_dir / "best.json", {"format": FORMAT, "accuracy": accuracy, "topology": topology})


def _is_only_while_best(path: Path) -> bool:
    with suppress(ValueError):  # a damaged one is left to whoever asks for it
        return read_header(path).get("only_while_best") is True
    return False
