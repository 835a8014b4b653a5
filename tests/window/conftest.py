"""A real napari window on a virtual screen, with the plugin in it, and what a person does there."""

import importlib.util
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import training
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (32, 48, 56)
TINY = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=4, batch=8, images_per_epoch=32)
PATIENCE_S = 240  # a busy machine five times slower still answers in this time
MANIFEST = Path(__file__).parents[2] / "alsiseg" / "plugin" / "napari.yaml"


def pytest_collection_modifyitems(items):
    """Mark everything here as slow; skip it, with the reason, where no window can be opened, but not in CI."""
    reason = "" if os.environ.get("ALSISEG_NO_SKIP") else no_window_reason()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def no_window_reason() -> str:
    """Why a real window cannot be opened here; empty when it can."""
    if importlib.util.find_spec("napari") is None:
        return "napari is not installed"
    virtual = importlib.util.find_spec("pytest_xvfb") and shutil.which("Xvfb")
    return "" if os.environ.get("DISPLAY") or virtual else "no screen: neither DISPLAY nor Xvfb with pytest-xvfb"


def blobs(seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Blobs of three phases whose grey values hardly overlap."""
    random = np.random.default_rng(seed)
    field_zyx = ndimage.gaussian_filter(random.normal(size=SHAPE_ZYX), 2.5, mode="wrap")
    labels_zyx = np.digitize(field_zyx, np.quantile(field_zyx, [0.6, 0.8])).astype(np.uint8)
    grey_zyx = 1000 + 400.0 * labels_zyx + random.normal(0, 60, SHAPE_ZYX)
    return grey_zyx.astype(np.uint16), labels_zyx


@pytest.fixture(scope="session")
def scan() -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Grey values and true phases."""
    return blobs()


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory, scan) -> Path:
    """Run of a tiny network, trained for some seconds."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return training.train(*scan, folder, TINY, voxel_size_um=1.2, device="cpu")


@pytest.fixture(scope="session")
def plugin(tmp_path_factory):
    """The plugin as napari knows it, installed or not."""
    os.environ["NAPARI_CONFIG"] = str(tmp_path_factory.mktemp("napari") / "settings.yaml")
    from npe2 import PluginManager, PluginManifest

    manager = PluginManager.instance()
    manager.discover()
    if "alsiseg" not in [manifest.name for manifest in manager.iter_manifests()]:
        manager.register(PluginManifest.from_file(MANIFEST))
    return manager


class Desk:
    """A napari window and a person before it."""

    def __init__(self, window, folder: Path) -> None:
        self.window, self.folder = window, folder

    def open_panel(self, name: str):
        """Open a panel as the menu Plugins does."""
        _, panel = self.window.window.add_plugin_dock_widget("alsiseg", name)
        self.look(0.1)
        return panel

    def look(self, seconds: float) -> None:
        """Let the window live for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def until(self, happened) -> None:
        """Wait for something to happen in the window."""
        from qtpy.QtWidgets import QApplication

        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            QApplication.processEvents()
            time.sleep(0.01)
            assert time.monotonic() < deadline, "it did not happen in time"

    def press(self, button) -> None:
        """Click a button with the mouse; it must be there and able to be clicked."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        native = getattr(button, "native", button)
        assert native.isVisible()
        assert native.isEnabled()
        QTest.mouseClick(native, Qt.MouseButton.LeftButton, pos=QPoint(10, native.height() // 2))

    def work(self, panel) -> None:
        """Wait until the panel has ended its work."""
        self.until(lambda: not panel.bar.is_working)

    def keep_picture(self, name: str) -> Path:
        """Keep a picture of the whole window as an artefact."""
        self.look(0.3)
        path = self.folder / f"{name}.png"
        self.window.screenshot(str(path), canvas_only=False, flash=False)
        return path

    @property
    def told(self) -> list[str]:
        """Read every notification of this window so far."""
        from napari.utils.notifications import notification_manager

        return [str(record.message) for record in notification_manager.records]


@pytest.fixture
def desk(plugin, tmp_path):
    """A window with nothing in it; what it leaves behind fails the test."""
    import napari
    from napari.utils.notifications import notification_manager
    from qtpy.QtCore import QCoreApplication, Qt, QThreadPool
    from qtpy.QtWidgets import QApplication

    folder = Path(os.environ.get("ALSISEG_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    notification_manager.records.clear()
    QCoreApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)  # those no test can answer
    window = napari.Viewer(title="alsiseg", show=True)
    window.window.resize(1500, 950)
    with notification_manager:  # as napari.run does: what goes wrong in a slot is told, and does not end the process
        yield Desk(window, folder)
    window.close()
    for _ in range(3):
        QApplication.sendPostedEvents()
        QApplication.processEvents()
    assert QThreadPool.globalInstance().waitForDone(60_000), "work went on after the window was closed"
    left = [widget for widget in QApplication.topLevelWidgets() if widget.isVisible()]
    assert not left, f"widgets were left open: {left}"
