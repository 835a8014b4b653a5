"""The uninterrupted run that every stopped one is compared with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import killable
import pytest


@dataclass(frozen=True)
class Whole:
    """A training that nothing disturbed: its folder, what is in it, and how it went."""

    run_dir: Path
    contents: dict[str, Any]
    ended: killable.Ended


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Whole:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    ended = killable.train_to_the_end(run_dir)
    assert (ended.signal, ended.error) == (0, "")
    return Whole(run_dir, killable.contents(run_dir), ended)
