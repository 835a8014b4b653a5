"""A data file or setting that changed between start and resume: named, and the run left as it was."""

import shutil
from dataclasses import replace

import pytest
from killable import SPECIMEN, TINY, contents

from alsiseg.loss import LossConfig
from alsiseg.training import train

pytestmark = pytest.mark.slow


def with_one_voxel_changed(volume):
    changed = volume.copy()
    changed[17, 20, 21] = (changed[17, 20, 21] + 1) % 3
    return changed


@pytest.mark.parametrize(
    ("grey_zyx", "labels_zyx", "changed", "named"),
    [
        (with_one_voxel_changed(SPECIMEN[0]), SPECIMEN[1], {}, "data.grey_sha256"),
        (SPECIMEN[0], with_one_voxel_changed(SPECIMEN[1]), {}, "data.labels_sha256"),
        (*SPECIMEN, {"seed": 1}, "config.seed 0 -> 1"),
        (*SPECIMEN, {"loss": LossConfig(soft_dice=0.5)}, r"config.loss.soft_dice 0.0 -> 0.5"),
        (*SPECIMEN, {"loss": LossConfig(class_balance=True)}, r"config.loss.class_balance False -> True"),
        (*SPECIMEN, {"batch": 5}, "config.batch 4 -> 5"),
    ],
)
def test_a_run_is_not_continued_with_what_changed(whole, tmp_path, grey_zyx, labels_zyx, changed, named):
    run_dir = shutil.copytree(whole.run_dir, tmp_path / "run")
    with pytest.raises(ValueError, match="was made with other settings or data") as refusal:
        train(grey_zyx, labels_zyx, run_dir, replace(TINY, **changed), resume=True, device="cpu")
    assert named in str(refusal.value)
    assert contents(run_dir) == whole.contents
