"""How fast slices of 512 x 512 pixels follow the slider of `viewer.compare`, in JupyterLab in headless Chromium.

    python benchmarks/slider.py --out slider.json
    python benchmarks/slider.py --against ../alsiseg_before     # another checkout, by turns with this one

The slider is pulled through slices never shown before, each as soon as the last one is on the screen, and again. The
processor time of a slice, in page, Chromium, kernel and server, varies less on a busy machine than frames per second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nbformat
import numpy as np
import psutil
import websocket

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from laboratory import IS_READY, TOKEN, chromium, jupyterlab, wait_until  # noqa: E402

N_SLICES = 60
VISITS = ("first visit", "again")
CELLS = [
    "import numpy as np\nfrom scipy import ndimage\nfrom alsiseg import viewer, volumes",
    "random = np.random.default_rng(0)\n"
    f"grey = random.normal(30_000, 4_000, ({N_SLICES}, 512, 512)).astype(np.uint16)\n"
    "truth = np.digitize(ndimage.uniform_filter(grey, 5), [30_000, 30_200]).astype(np.uint8)\n"
    "given = {'grey': grey, 'truth': truth, 'prediction': np.roll(truth, 1, axis=2)}",
    "for name, volume in given.items():\n    volumes.write(f'{name}.tif', volume, voxel_size_um=1.2)\n"
    "grey, truth, prediction = [volumes.open(f'{name}.tif') for name in given]",
    "viewer.compare(grey, truth=truth, prediction=prediction)",
]
IS_SHOWN = "!!document.querySelector('.alsiseg-compare .alsiseg-widget[data-shown-index]')"
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => 1)"
PULL = """(async () => {
    const widget = document.querySelector('.alsiseg-compare .alsiseg-widget'), times = [];
    const slider = widget.querySelector('[data-testid=slice]'), frame = () => new Promise(requestAnimationFrame);
    for (let i = 0; i <= slider.max; i++) {
        const began = performance.now();
        slider.value = i;
        slider.dispatchEvent(new Event('input'));
        do await frame(); while (widget.dataset.shownIndex !== String(i));
        times.push(performance.now() - began);
    }
    return times;
})()"""


class Tab:
    """A tab of Chromium over its own protocol: Playwright copies every message of the kernel, which slows it down."""

    def __init__(self, address: str) -> None:
        self.socket, self.n_asked = websocket.create_connection(address, timeout=600), 0
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # JupyterLab looks for what has the focus

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Ask something of the browser and wait for its answer."""
        self.n_asked += 1
        self.socket.send(json.dumps({"id": self.n_asked, "method": method, "params": given}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.n_asked:
            pass
        return answer["result"]

    def value(self, script: str) -> Any:
        """Run a script in the page and wait for what it gives."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        return found["result"].get("value")


@contextmanager
def tab_of_chromium(folder: Path) -> Iterator[tuple[Tab, psutil.Process]]:
    """Start Chromium with one empty tab."""
    options = ["--headless=new", "--no-sandbox", "--remote-debugging-port=0", "--remote-allow-origins=*"]
    options += [f"--user-data-dir={folder}", "--window-size=1500,1100", "--disable-dev-shm-usage", "about:blank"]
    process = subprocess.Popen([str(chromium()), *options], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        listens = folder / "DevToolsActivePort"
        wait_until(lambda: listens.is_file() and listens.read_text().strip(), "Chromium starts")
        with urlopen(f"http://localhost:{listens.read_text().split()[0]}/json") as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        yield Tab(page["webSocketDebuggerUrl"]), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(browser: psutil.Process) -> dict[str, float]:
    """Processor time so far: of the page, the rest of Chromium, the kernel, the server."""
    spent = dict.fromkeys(("page", "rest of Chromium", "kernel", "server"), 0.0)
    family = [(process, "rest of Chromium") for process in (browser, *browser.children(recursive=True))]
    family += [(process, "server") for process in psutil.Process().children() if process != browser]
    family += [(kernel, "kernel") for server, what in family if what == "server" for kernel in server.children()]
    for process, what in family:
        what = "page" if "--type=renderer" in process.cmdline() else what
        times = process.cpu_times()
        spent[what] += times.user + times.system
    return spent


def pulled(tab: Tab, browser: psutil.Process) -> dict[str, float]:
    """Pull the slider through all slices once: frames per second, and what they cost."""
    before, ms = cpu_seconds(browser), tab.value(PULL)
    cost = {what: spent - before[what] for what, spent in cpu_seconds(browser).items()}
    frames = {"frames per s": 1000 / np.mean(ms), "median ms": np.median(ms), "slowest ms": max(ms)}
    return frames | {f"CPU ms, {what}": 1000 * seconds / len(ms) for what, seconds in cost.items()}


def measured_with(code: Path) -> dict[str, dict[str, float]]:
    """Measure a checkout of alsiseg in a JupyterLab of its own: open, run, and pull through the slices twice."""
    os.environ["PYTHONPATH"] = str(code)
    with tempfile.TemporaryDirectory() as name:
        home, own, profile = (Path(name) / part for part in ("home", "lab", "chromium"))
        for folder in (home / "notebooks", own, profile):
            folder.mkdir(parents=True)
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}
        page = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, CELLS)), metadata=kernel)
        nbformat.write(page, home / "notebooks" / "speed.ipynb")
        with jupyterlab(home, own, profile="tiny") as server, tab_of_chromium(profile) as (tab, browser):
            tab.call("Page.navigate", url=f"{server.url}lab/tree/notebooks/speed.ipynb?reset&token={TOKEN}")
            wait_until(lambda: tab.value(f"({IS_READY})()"), "the notebook opens")
            tab.value(RUN_ALL)
            wait_until(lambda: tab.value(IS_SHOWN), "the widget shows a slice")
            time.sleep(3)  # what JupyterLab still does after opening is no part of this
            return {visit: pulled(tab, browser) for visit in VISITS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, measured by turns with this one")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    checkouts = {"this": ROOT} | ({"other": options.against.resolve()} if options.against else {})
    rounds: list[dict[str, Any]] = []
    for name, code in options.rounds * list(checkouts.items()):
        rounds.append({"code": name, "load": os.getloadavg()[0], **measured_with(code)})
        for visit in VISITS:
            words = ", ".join(f"{what} {value:.1f}" for what, value in rounds[-1][visit].items())
            print(f"{name}, {visit}: {words}; load {rounds[-1]['load']:.1f}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(rounds, indent=2) + "\n")


if __name__ == "__main__":
    main()
