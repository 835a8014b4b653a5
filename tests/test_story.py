"""The runner's own arithmetic; that the notebooks run is tested in tests/notebooks."""

import numpy as np
import pytest

from alsiseg import story, volumes
from alsiseg.profiles import PROFILES
from alsiseg.story import Page, _Clock
from alsiseg.weightmaps import PixelWeights


def test_a_page_knows_where_a_profile_keeps_its_data(tmp_path, monkeypatch):
    monkeypatch.setenv("ALSISEG_PROFILE", "tiny")
    monkeypatch.setenv("ALSISEG_HOME", str(tmp_path))
    page = story.open_page()
    assert page.profile == PROFILES["tiny"]
    assert page.specimen_dir("slow") == tmp_path / "data" / "tiny" / "slow"
    assert page.run_dir(PixelWeights(1, 1.15, 1.2)) == tmp_path / "data" / "tiny" / "runs" / "weights_1_1.15_1.2"


def test_figures_are_drawn_from_the_own_run_else_from_the_record_of_the_reference_run(tmp_path, capsys):
    page, weights = Page(PROFILES["tiny"], tmp_path), PixelWeights(1, 1, 1)
    assert page.finished_run_dir(weights) == page.run_dir(weights)  # whose reader then says what is missing
    page.record_dir(weights).mkdir(parents=True)
    assert page.finished_run_dir(weights) == tmp_path / "data" / "reference" / "tiny" / "weights_1_1_1"
    assert "not trained here" in capsys.readouterr().out
    page.run_dir(weights).mkdir(parents=True)
    assert page.finished_run_dir(weights) == page.run_dir(weights)
    assert not capsys.readouterr().out


def test_a_run_that_has_not_come_to_the_reported_epoch_leaves_no_record(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"needs a run with .*; train it to epoch \d+"):
        story.keep_records(tmp_path, PROFILES["tiny"])
    assert not (tmp_path / "data" / "reference").exists()


def test_without_a_variable_the_home_of_a_notebook_is_the_folder_above(tmp_path, monkeypatch):
    monkeypatch.delenv("ALSISEG_HOME", raising=False)
    monkeypatch.delenv("ALSISEG_PROFILE", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert story.open_page() == Page(PROFILES["quick"], tmp_path)


def test_the_clock_says_what_runs_how_far_it_is_and_how_long_it_has_left():
    said = []
    clock = _Clock(["01_a", "02_b"], {"01_a": 100.0, "02_b": 200.0}, said.append)
    clock.begin("01_a")
    clock.say("reading\rscan 50%\r")
    assert said[0] == "[1/2] 01_a (about 5 min left): starting"
    assert said[1].endswith("scan 50%")
    clock.end("01_a")
    clock.skip("02_b")
    assert said[-1] == "[2/2] 02_b: up to date"


def test_without_expected_seconds_no_time_is_invented():
    said = []
    _Clock(["01_a"], {}, said.append).begin("01_a")
    assert said == ["[1/1] 01_a: starting"]


def test_an_error_of_the_users_is_told_from_an_error_of_ours(tmp_path):
    with pytest.raises(ValueError, match="a volume is written as") as mistake:
        volumes.write(tmp_path / "a.png", np.zeros((1, 2, 3), np.uint8))
    assert story.mendable(mistake.value)
    with pytest.raises(ValueError, match="invalid literal") as bug:
        int("no number")
    assert not story.mendable(bug.value)


def test_a_folder_without_notebooks_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="numbered notebooks"):
        story.tell(tmp_path, tmp_path, PROFILES["tiny"])
