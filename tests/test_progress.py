from alsiseg.progress import steps


def test_what_is_counted_passes_unchanged(capsys):
    assert list(steps(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_long_loop_says_what_runs_how_far_it_is_and_how_long_it_has_left(capsys):
    with steps(None, "measuring", 10) as bar:
        bar.update(3)
        bar.start_t -= 60  # as if it had taken a minute
        bar.last_print_t -= 60
        bar.update(2)
    written = capsys.readouterr()
    assert written.out == ""
    assert "measuring:  50%" in written.err
    assert "5/10 [01:00<01:00" in written.err
