"""Make the two pictures of README: a notebook in JupyterLab, and napari with the plugin.

    make figures
    .venv/bin/python tests/browser/readme_pictures.py              # with a screen, or
    xvfb-run -a .venv/bin/python tests/browser/readme_pictures.py  # without one

Notebook 7 is opened in a real JupyterLab and run; in napari the panel Segment segments the test section with the
network of notebook 5. What is seen is what was on the screen.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from laboratory import PATIENCE_S, ROOT, Notebook, furnish, headless_chromium, jupyterlab
from PIL import Image

from alsiseg import dataset, viewer, volumes
from alsiseg.profiles import Profile, chosen
from alsiseg.story import Page

WINDOW_PX = (1400, 900)
PANEL_PX = 360


def save_small(picture: Path, out: Path) -> None:
    """Write a picture in as few bytes as PNG can."""
    Image.open(picture).convert("RGB").save(out, optimize=True)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def picture_of_notebook(folder: Path, profile: str) -> Path:
    """Run notebook 7 in JupyterLab and point at a wrong pixel in its widget."""
    own = folder / "lab"
    own.mkdir()
    with headless_chromium() as browser, jupyterlab(folder / "home", own, profile=profile) as server:
        notebook = Notebook.open(browser, server, "07_accuracy")
        notebook.page.set_viewport_size(dict(zip(("width", "height"), WINDOW_PX, strict=True)))
        notebook.run_all()
        if notebook.failures:
            raise SystemExit("\n".join(notebook.failures))
        notebook.page.keyboard.press("Control+b")  # without the list of files
        widget = notebook.widget("compare")
        widget.locator("[data-shown-index]").wait_for()
        canvas = widget.locator("[data-testid=picture]").last.bounding_box()
        notebook.page.mouse.move(canvas["x"] + 0.58 * canvas["width"], canvas["y"] + 0.87 * canvas["height"])
        return notebook.keep_picture(folder, "notebook")


def picture_of_napari(folder: Path, profile: Profile) -> Path:
    """Segment the test section in a napari window."""
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QApplication

    page = Page(profile, Path())
    grey = volumes.open(page.specimen_dir("slow") / "synchrotron.tif")
    section = dataset.test_section(grey, profile.training.crop_px)
    window = viewer.open_napari(section, {}, voxel_size_um=grey.voxel_size_um)
    window.window.resize(*WINDOW_PX)
    dock, panel = window.window.add_plugin_dock_widget("alsiseg", "Segment")
    dock.parent().resizeDocks([dock], [PANEL_PX], Qt.Orientation.Horizontal)
    panel.run.value = page.run_dir(profile.weight_settings[-1])
    panel.start.native.click()
    let_live(lambda: not panel.bar.is_working)
    window.reset_view()
    drawn_by = time.monotonic() + 1
    let_live(lambda: time.monotonic() > drawn_by)
    path = folder / "napari.png"
    window.screenshot(str(path), canvas_only=False, flash=False)
    window.close()
    QApplication.processEvents()
    return path


def let_live(ended: Callable[[], bool]) -> None:
    """Let the window live until something has ended."""
    from qtpy.QtWidgets import QApplication

    deadline = time.monotonic() + PATIENCE_S
    while not ended() and time.monotonic() < deadline:
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Make both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=ROOT, help="the folder that holds data/PROFILE")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--out", type=Path, default=ROOT / "figures")
    options = parser.parse_args()
    page, out = Page(chosen(options.profile), options.home.resolve()), options.out.resolve()
    if not page.run_dir(page.profile.weight_settings[-1]).is_dir():
        raise SystemExit(f"needs the networks of notebook 5, found none in {page.data_dir}; run `make figures` first")
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name), Path(name) / "home"
        furnish(home)
        (home / "data" / options.profile).symlink_to(page.data_dir)
        os.chdir(home)  # so that no picture shows where this machine keeps its files
        save_small(picture_of_napari(folder, page.profile), out / "desk_napari.png")
        save_small(picture_of_notebook(folder, options.profile), out / "desk_notebook.png")
        os.chdir(out)


if __name__ == "__main__":
    main()
