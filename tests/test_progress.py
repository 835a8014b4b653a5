import pytest

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


def test_in_a_notebook_it_is_a_quiet_line_that_leaves_nothing_to_read():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    said = []

    class Watched(nbclient.NotebookClient):
        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] == "stream":
                said.append((msg["content"]["name"], msg["content"]["text"]))
            return super().process_message(msg, cell, cell_index)

    source = (
        "import time\nfrom alsiseg.progress import steps\n"
        "with steps(None, 'measuring', 10) as bar:\n"
        "    bar.start_t -= 60\n    bar.last_print_t -= 60\n    bar.update(5)\n    time.sleep(0.5)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = Watched(notebook, timeout=240)
    client.coalesce_streams = True
    client.execute()
    assert {name for name, _ in said} == {"stdout"}
    assert "measuring:  50%" in "".join(text for _, text in said)
    assert "".join(output["text"] for output in notebook.cells[0].outputs).strip() == ""
