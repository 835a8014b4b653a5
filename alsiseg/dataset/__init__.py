"""From one labelled volume to the images of an epoch (paper, "Data augmentation and data splitting").

The specimen lives once in memory (`LabelledVolume`), on the host or on a device. What is random is drawn first
(`draw_epoch`), for all images of an epoch at once and from a counter-based generator, and applied afterwards, to
whole batches where the specimen is (`training_batch`): image i of epoch e is the same whatever the batch size, the
order, the device, the number of processes (`Draws.share`) or a restart.

The published count: 595 slices x 4 corners x 3 rotations x 4 grey changes = 28,560 images an epoch.

`sections` says which slices train and test, `specimen` holds the volume, `draws` draws, `batches` applies, `views`
lets several specimens and directions train together; `statistics` says what a scan's grey looks like.
"""

from alsiseg.dataset.batches import change_grey, training_batch
from alsiseg.dataset.draws import Augmentation, Draws, draw_epoch, draw_from_views
from alsiseg.dataset.sections import SMALLEST_SPLIT, Split, centre_window, context_slices, split, test_section
from alsiseg.dataset.specimen import GreyScale, LabelledVolume, check_pair, grey_scale, labelled_volume
from alsiseg.dataset.statistics import Statistics, grey_statistics
from alsiseg.dataset.views import AXES, View, batch_from_views, seen_along

__all__ = [
    "AXES",
    "SMALLEST_SPLIT",
    "Augmentation",
    "Draws",
    "GreyScale",
    "LabelledVolume",
    "Split",
    "Statistics",
    "View",
    "batch_from_views",
    "centre_window",
    "change_grey",
    "check_pair",
    "context_slices",
    "draw_epoch",
    "draw_from_views",
    "grey_scale",
    "grey_statistics",
    "labelled_volume",
    "seen_along",
    "split",
    "test_section",
    "training_batch",
]
