"""A real JupyterLab in a headless Chromium, for as long as a `with` block, and a person before it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import psutil

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
EXAMPLE_SCAN = ROOT / "data" / "cement_128x128x128.tif"
PATIENCE_S = 300  # a busy machine five times slower still answers in this time
TOKEN = "of-this-test"
WINDOW = {"width": 1500, "height": 1100}

# What JupyterLab, its server or Chromium says itself as an error, and why that is no fault of a notebook.
HARMLESS = {
    r"widget model not found": "a saved notebook whose kernel has ended: no controls until the cell runs again",
    r"\b500\b.* http\S+/api/kernels\?": (
        "the list of kernels, asked for every ten seconds, fails in the moment in which another one starts and has no "
        "time of its last activity yet (jupyter-server/enterprise_gateway issue 1395)"
    ),
}

SETTINGS = {  # JupyterLab asks about news in a corner of the window, and looks for a newer version on the network
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
# Where the notebook stands: the promise of the command that the menu started, and the cells as they would be saved.
WATCH_RUN = """() => {
    window.ended = null;
    window.jupyterapp.commands.commandExecuted.connect((_, command) => {
        if (command.id === 'notebook:run-all-cells') command.result.finally(() => { window.ended = true; });
    });
}"""
IS_READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
CELLS = "() => window.jupyterapp.shell.currentWidget.model.toJSON().cells"
SCROLL_TO = """async (index) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    await notebook.scrollToItem(index, 'start');
}"""
ASK = """async (code) => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    const running = kernel.requestExecute({ code, store_history: false });
    let said = '';
    running.onIOPub = (message) => { if (message.header.msg_type === 'stream') said += message.content.text; };
    await running.done;
    return said.trim();
}"""
IS_SAVED = "() => !window.jupyterapp.shell.currentWidget.context.model.dirty"


def chromium() -> str | None:
    """Return the program of the system's Chromium."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((program for program in found if program), None)


def missing_reason() -> str:
    """Why no browser can be had here; empty when one can."""
    import importlib.util

    absent = [name for name in ("playwright", "jupyterlab", "anywidget") if importlib.util.find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} not installed"
    return "" if chromium() else "no Chromium: neither chromium nor chromium-browser nor google-chrome on the PATH"


def wait_until(happened: Callable[[], Any], what: str) -> None:
    """Look again and again until it has happened; a deadline ends it."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.05)


def furnish(home: Path) -> Path:
    """Put copies of the notebooks and the example scan into a folder."""
    shutil.copytree(NOTEBOOKS, home / "notebooks", ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    (home / "data").mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLE_SCAN, home / "data")
    return home


@dataclass(frozen=True)
class Server:
    """A running JupyterLab.

    Attributes
    ----------
    url : str
    home : Path
        Folder of `notebooks`, `data` and `figures`.
    """

    url: str
    home: Path

    def sessions(self) -> list[dict[str, Any]]:
        """Return what the server says of its kernels."""
        with urlopen(f"{self.url}api/sessions?token={TOKEN}") as answer:
            return json.load(answer)

    def end_kernels(self) -> None:
        """End every kernel, as a computer that was switched off in the meantime."""
        for session in self.sessions():
            where = f"{self.url}api/sessions/{session['id']}?token={TOKEN}"
            urlopen(Request(where, method="DELETE")).close()


@contextmanager
def jupyterlab(home: Path, own: Path, *, profile: str) -> Iterator[Server]:
    """Run a JupyterLab in `home` that knows nothing of its user; it and its kernels end with the block.

    Parameters
    ----------
    home
        Folder of `notebooks` and `data`.
    own
        An empty folder for settings, state and log.
    profile
        The size in which the notebooks run.
    """
    for name, settings in SETTINGS.items():
        path = own / "config/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    options += [f"--ServerApp.root_dir={home}", f"--IdentityProvider.token={TOKEN}"]
    options += ["--LabApp.expose_app_in_browser=True", "--LabApp.collaborative=False"]
    log_path = own / "log.txt"
    with log_path.open("w") as log:
        command = [sys.executable, "-m", "jupyter", "lab", *options]
        server = subprocess.Popen(command, cwd=home, env=_environment(own, profile), stdout=log, stderr=log)
        try:
            yield Server(_address(server, own / "runtime", log_path), home)
        finally:
            _end(server)


def _environment(own: Path, profile: str) -> dict[str, str]:
    """Environment of a user without settings; the kernels inherit it."""
    foreign = ("JUPYTER", "ALSISEG", "IPYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    folders = {f"JUPYTER_{name.upper()}_DIR": str(own / name) for name in ("config", "data", "runtime")}
    return kept | folders | {"IPYTHONDIR": str(own / "ipython"), "ALSISEG_PROFILE": profile}


def _address(server: subprocess.Popen, runtime: Path, log_path: Path) -> str:
    """Wait for the file in which the server says where it listens."""
    found: list[Path] = []

    def listens() -> bool:
        assert server.poll() is None, f"JupyterLab did not start:\n{log_path.read_text()[-3000:]}"
        found[:] = [path for path in runtime.glob("jpserver-*.json") if path.stat().st_size]
        return bool(found)

    wait_until(listens, "JupyterLab starts")
    return json.loads(found[0].read_text())["url"]


def _end(server: subprocess.Popen) -> None:
    """End the server, then whatever of its kernels is still there."""
    processes = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for process in psutil.wait_procs(processes, timeout=10)[1]:
        process.kill()


@contextmanager
def headless_chromium() -> Iterator["Browser"]:
    """Start the system's Chromium without a window."""
    from playwright.sync_api import sync_playwright

    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=[*as_root, "--disable-dev-shm-usage"], timeout=1000 * PATIENCE_S
        )
        try:
            yield browser
        finally:
            browser.close()


def _words(message: "ConsoleMessage") -> str:
    """What the console says, and of which address."""
    return f"{message.text} {message.location['url']}"


def _failure(output: dict[str, Any]) -> str:
    """Return an error that an output shows; a mistake that the reader can mend is one sentence on stderr."""
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    text = "".join(output["text"]) if output.get("name") == "stderr" else ""
    return next((line for line in text.splitlines() if line.startswith("alsiseg: ")), "")


@dataclass
class Notebook:
    """A notebook in a tab of the browser, and a person before it.

    Attributes
    ----------
    page : Page
    name : str
    complaints : list of str
        Errors on the console, of scripts and of requests, but the harmless ones; and what was asked of other
        computers.
    """

    page: "Page"
    name: str
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: "Browser", server: Server, name: str) -> "Notebook":
        """Open a notebook as a click on its file does, and wait for its kernel."""
        page = browser.new_page(viewport=WINDOW)
        page.set_default_timeout(1000 * PATIENCE_S)
        notebook = cls(page, name)
        notebook._listen(server.url)
        page.goto(f"{server.url}lab/tree/notebooks/{name}.ipynb?reset&token={TOKEN}")
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
        page.wait_for_function(IS_READY)
        return notebook

    def _listen(self, home_url: str) -> None:
        ours = (home_url, home_url.replace("http", "ws", 1), "data:", "blob:")
        note = self.complaints.append
        self.page.on("console", lambda message: message.type == "error" and self._complain(_words(message)))
        self.page.on("pageerror", lambda error: self._complain(f"{error}"))
        self.page.on(
            "response", lambda answer: answer.status >= 400 and self._complain(f"{answer.status} {answer.url}")
        )
        self.page.on("request", lambda asked: asked.url.startswith(ours) or note(f"asked {asked.url}"))

    def _complain(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in HARMLESS):
            self.complaints.append(text)

    def run_all(self, *, wait: bool = True) -> None:
        """Click Run, Run All Cells, and wait for the last one."""
        self.page.evaluate(WATCH_RUN)
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        if wait:
            self.wait_for_end()

    def wait_for_end(self) -> None:
        """Wait until all cells have run, or one has failed."""
        self.page.wait_for_function("() => window.ended")

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells with their outputs, as they would be saved now."""
        return self.page.evaluate(CELLS)

    @property
    def failures(self) -> list[str]:
        """What a reader would call an error: of cells, of the library in a sentence, of cells that did not run."""
        found = []
        for cell in self.cells:
            if cell["cell_type"] == "code":
                found += [what for output in cell["outputs"] if (what := _failure(output))]
                found += [] if cell["execution_count"] else [f"did not run: {cell['source']}"]
        return found

    def find(self, code: str) -> int:
        """Index of the first code cell that contains `code`."""
        sources = ["".join(cell["source"]) if cell["cell_type"] == "code" else "" for cell in self.cells]
        return next(i for i, source in enumerate(sources) if code in source)

    def scroll_to(self, index: int) -> "Locator":
        """Scroll to a cell and return it."""
        self.page.evaluate(SCROLL_TO, index)
        cell = self.page.locator(".jp-Notebook .jp-Cell.jp-mod-active")
        cell.wait_for()
        return cell

    def widget(self, kind: str) -> "Locator":
        """Return a live widget: "compare", "weights" or "thresholds"."""
        self.scroll_to(self.find(f"viewer.{kind}("))
        found = self.page.locator(f".alsiseg-{kind}.alsiseg-live")
        found.wait_for()
        return found

    def ask(self, code: str) -> str:
        """Run code in the kernel without a cell and return what it prints; `_` is the last cell's result."""
        return self.page.evaluate(ASK, code)

    def save(self) -> None:
        """Press Ctrl+S and wait until the file is written."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_function(IS_SAVED)

    def keep_picture(self, folder: Path, what: str) -> Path:
        """Keep a picture of the window as an artefact."""
        path = folder / f"{what}.png"
        self.page.screenshot(path=path)
        return path
