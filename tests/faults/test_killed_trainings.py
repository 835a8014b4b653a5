"""A power cut: SIGKILL at random moments, then resumed."""

import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from faulty_disk import KILLED
from killable import Ended, contents, phase, train_to_the_end, two_at_a_time

pytestmark = pytest.mark.slow
N_TRAININGS = 50
SHARE_KILLED_TWICE = 0.3


@dataclass(frozen=True)
class Kill:
    """A moment: seconds after the start, or just before or within a call that writes."""

    after_s: float | None = None
    at: int | None = None

    def strike(self, run_dir: Path) -> Ended:
        """Train until the kill; earlier than asked for when the training is over by then."""
        if self.after_s is None:
            return train_to_the_end(run_dir, at=self.at, fault=KILLED)
        after_s, ended = self.after_s, train_to_the_end(run_dir, killed_after_s=self.after_s)
        while ended.signal == 0 and after_s > 0.01:
            after_s /= 2
            ended = train_to_the_end(run_dir, killed_after_s=after_s)
        return ended


def moments(random: np.random.Generator, whole: Ended) -> list[Kill]:
    """Draw when one training is killed: at a time or at a call, and some once more after they were resumed."""
    n_kills = 1 + (random.random() < SHARE_KILLED_TWICE)
    n_calls = (len(whole.calls), 30)  # of the first start; of one that is resumed, at least
    by_clock = random.random(n_kills) < 0.5
    times, shares = random.uniform(0, whole.seconds, n_kills), random.random(n_kills)
    calls = [1 + int(share * n) for share, n in zip(shares, n_calls, strict=False)]
    return [Kill(after_s=t) if clock else Kill(at=k) for clock, t, k in zip(by_clock, times, calls, strict=True)]


def test_trainings_killed_at_random_moments_end_with_the_same_bytes(whole, tmp_path, capsys):
    random = np.random.default_rng(2019)
    drawn = [moments(random, whole.ended) for _ in range(N_TRAININGS)]

    def attempt(number: int) -> tuple[int, list[str], bool]:
        run_dir, n_kills, phases = tmp_path / f"run-{number}", 0, []
        for kill in drawn[number]:
            n_kills += kill.strike(run_dir).signal == signal.SIGKILL
            phases.append(phase(run_dir))
        ended = train_to_the_end(run_dir)
        return n_kills, phases, not ended.error and contents(run_dir) == whole.contents

    n_kills, phases, equal = zip(*two_at_a_time(attempt, range(N_TRAININGS)), strict=True)
    different_phases = {one for several in phases for one in several}
    kinds = Counter(whole.ended.calls[kills[0].at - 1][0] for kills in drawn if kills[0].at)
    at_calls = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    with capsys.disabled():
        print(
            f"\n{N_TRAININGS} trainings killed {sum(n_kills)} times, first by the clock "
            f"({N_TRAININGS - kinds.total()}) or at a call ({at_calls}), "
            f"with {len(different_phases)} different contents of the folder; {sum(equal)} of {N_TRAININGS} "
            "end with the bytes of the uninterrupted run"
        )
    assert all(equal), [kills for kills, same in zip(drawn, equal, strict=True) if not same]
    assert sum(n_kills) >= N_TRAININGS
    assert len(different_phases) > N_TRAININGS / 3
