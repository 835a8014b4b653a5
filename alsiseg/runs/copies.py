"""Small copies of runs: what figures are drawn from."""

from pathlib import Path

from alsiseg.runs.histories import TABLES
from alsiseg.runs.records import SETTINGS
from alsiseg.volumes import written_whole


def keep_record(run_dir: Path, record_dir: Path, epoch: int, *, with_network: bool = False) -> Path:
    """Copy what Figs. 4-7 are drawn from: settings, histories, the test section, perhaps the network.

    Measures and labels can be read from the copy as from the run. It cannot be continued. The copy of an earlier
    record in `record_dir` is replaced file by file.

    Parameters
    ----------
    run_dir
        A run folder, which stays as it is.
    record_dir
        The new folder.
    epoch
        The kept epoch whose labels (and network) are copied.
    with_network
        Whether the copy can segment.

    Raises
    ------
    FileNotFoundError
        When the run does not have that epoch.
    """
    network = [f"checkpoints/epoch_{epoch:04d}{suffix}" for suffix in (".safetensors", ".json")] if with_network else []
    names = [SETTINGS, "truth.json", *TABLES, "test/truth.tif", f"test/epoch_{epoch:04d}.tif", *network]
    for name in names:
        if not (run_dir / name).is_file():
            raise FileNotFoundError(f"needs a run with {name}, found none in {run_dir}; train it to epoch {epoch}")
    for name in names:
        with written_whole(record_dir / name) as partial:
            partial.write_bytes((run_dir / name).read_bytes())
    return record_dir
