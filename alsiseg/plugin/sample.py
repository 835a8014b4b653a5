"""Sample data for napari: the specimen, made while the window stays alive."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from alsiseg.plugin import opening

if TYPE_CHECKING:
    from alsiseg.plugin.layers import LayerData

LOOK_EVERY_MS = 50


def specimen() -> "list[LayerData]":
    """Make the specimen in a thread and give its layers: the scan, and the true phases."""
    from napari.utils import progress
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer = QEventLoop(), QTimer()
    with ThreadPoolExecutor(1) as pool, progress(total=0, desc="making the specimen, some seconds"):
        made = pool.submit(opening.specimen)
        timer.timeout.connect(lambda: loop.quit() if made.done() else None)
        timer.start(LOOK_EVERY_MS)
        loop.exec()
        timer.stop()
    return made.result()
