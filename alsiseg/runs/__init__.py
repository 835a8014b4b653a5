"""The run folder: everything about one training, whole or not there at all.

::

    settings.json                        what repeats the run: configuration, checksums of the data, versions
    truth.json                           the measures of the test truth, for the dashed lines
    history.csv                          one row per epoch, epoch 0 is the untrained network
    accuracy_per_slice.csv               one row per epoch, one column per test slice
    best.json                            the epochs best by accuracy and by topology, whose networks are kept
    checkpoints/epoch_0050.safetensors   the network, with epoch_0050.json beside it
    test/truth.tif, test/epoch_0050.tif  labels of the test section: true, and as that network gives them
    resume/epoch_0052.safetensors        the last complete states of network and optimiser, with their JSON
    corrections.tif                      in a run that corrects another (its "parent" in settings.json) only: the phase
                                         of every corrected voxel, 255 elsewhere

While a run is trained, a hidden file beside its folder, `.NAME.training`, keeps other trainings out (`locked`).

Networks that come with alsiseg are run folders too, without the large parts (`test`, `resume`); wherever a run is
read, their name stands for the folder (`located`). A network that was exported as safetensors is read in place of a
run folder as well: its JSON holds the settings of its run.

Every file is written under another name, flushed to disk and renamed. Every JSON file holds the checksum of
its content and names that of the tensors beside it; the JSON of a state also repeats the histories. Nothing
here is pickled: loading a file runs no code from it.
"""

from alsiseg.runs.copies import keep_record
from alsiseg.runs.files import FORMAT
from alsiseg.runs.histories import (
    BestEpochs,
    best_epochs,
    read_accuracy_per_slice,
    read_history,
    record,
    topology_error,
)
from alsiseg.runs.locking import claimed, locked
from alsiseg.runs.networks import Trained, kept_epochs, load_network, load_state, save_network, save_state
from alsiseg.runs.places import located, shipped
from alsiseg.runs.records import (
    amend,
    checksum,
    differences,
    exists,
    parent,
    read_settings,
    read_test,
    read_truth,
    save_prediction,
    save_test_truth,
    set_aside,
    start,
    versions,
)
from alsiseg.runs.upkeep import extend, record_best

__all__ = [
    "FORMAT",
    "BestEpochs",
    "Trained",
    "amend",
    "best_epochs",
    "checksum",
    "claimed",
    "differences",
    "exists",
    "extend",
    "keep_record",
    "kept_epochs",
    "load_network",
    "load_state",
    "located",
    "locked",
    "parent",
    "read_accuracy_per_slice",
    "read_history",
    "read_settings",
    "read_test",
    "read_truth",
    "record",
    "record_best",
    "save_network",
    "save_prediction",
    "save_state",
    "save_test_truth",
    "set_aside",
    "shipped",
    "start",
    "topology_error",
    "versions",
]
