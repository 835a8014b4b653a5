"""The widgets of a notebook: what Python knows of them. The browser's part is in the folder browser.

Imported inside functions: it needs anywidget.
"""

import math
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from alsiseg import figures
from alsiseg.phases import PHASE_COLOURS, PHASE_NAMES, Phase
from alsiseg.viewer.serving import Serving
from alsiseg.viewer.slices import Sections, for_browser
from alsiseg.viewer.stack import PLANE_AXES, Stack
from alsiseg.weightmaps import PUBLISHED_SETTINGS, PixelWeights, weight_map, weight_regions

BROWSER = Path(__file__).parent / "browser"
AXES = "zyx"


def script(*parts: str) -> str:
    """Read the browser's part of a widget: what all share, then its own."""
    return "\n".join((BROWSER / f"{name}.js").read_text(encoding="utf-8") for name in ("pictures", *parts))


def phases_for_browser() -> list[dict[str, str]]:
    """Names and colours of the phases, in the order of their labels."""
    return [{"name": PHASE_NAMES[phase], "colour": PHASE_COLOURS[phase]} for phase in Phase]


class _Widget(anywidget.AnyWidget):
    """What the three widgets share: style of the browser's part, and what it needs to know once."""

    _css = BROWSER / "widgets.css"
    scene = traitlets.Dict().tag(sync=True)

    def __init__(self, kind: str, scene: dict[str, Any], **state: Any) -> None:
        super().__init__(scene=scene | {"phases": phases_for_browser()}, **state)
        self.add_class(f"alsiseg-{kind}")


class Compare(_Widget):
    """A volume with the labels over it, slice by slice.

    Every attribute follows the browser and moves it.

    Attributes
    ----------
    plane : "xy", "xz" or "yz"
    z, y, x : int
        The slice of each plane: z of xy, y of xz, x of yz; counted from 0.
    layers : list of str
        Pictures shown side by side: of "input", "truth", "prediction", "difference" those that there are.
    phases : list of str
        Names of the phases whose colour is shown.
    opacity : float
        Of the colours over the grey values, 0 to 1.
    window : (float, float)
        Grey values shown black and white.
    """

    _esm = script("slices", "drawing", "compare")
    plane = traitlets.Enum(list(PLANE_AXES), "xy").tag(sync=True)
    z = traitlets.Int().tag(sync=True)
    y = traitlets.Int().tag(sync=True)
    x = traitlets.Int().tag(sync=True)
    layers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    phases = traitlets.List(traitlets.Unicode()).tag(sync=True)
    opacity = traitlets.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    window = traitlets.Tuple(traitlets.Float(), traitlets.Float()).tag(sync=True)

    def __init__(self, stack: Stack, *, voxel_size_um: float | None = None) -> None:
        self._shape = tuple(stack.grey.shape)
        self._layers = stack.layers
        z, y, x = (n // 2 for n in self._shape)
        scene = {
            "shape": list(self._shape),
            "voxel_size_um": voxel_size_um,
            "layers": stack.layers,
            "labels": list(stack.labels),
        }
        shown = stack.layers[-2:] if len(stack.labels) == 2 else stack.layers[-1:]
        coloured = [PHASE_NAMES[phase] for phase in (Phase.SILICON, Phase.ALUMINIDE)]
        state = {"layers": shown, "phases": coloured, "window": stack.limits}
        super().__init__("compare", scene, z=z, y=y, x=x, **state)
        self._serving = Serving(Sections(stack), self.send)
        self.on_msg(self._listen)

    @traitlets.validate("z", "y", "x")
    def _inside(self, proposal: Any) -> int:
        axis, index = proposal["trait"].name, int(proposal["value"])
        n_slices = self._shape[AXES.index(axis)]
        if not 0 <= index < n_slices:
            raise ValueError(f"{axis} must be 0 to {n_slices - 1}, got {index}; the volume has {n_slices} slices there")
        return index

    @traitlets.validate("layers")
    def _known_layers(self, proposal: Any) -> list[str]:
        asked = proposal["value"]
        if not asked or set(asked) - set(self._layers):
            raise ValueError(f"layers must be some of {', '.join(self._layers)}, got {', '.join(asked) or 'none'}")
        return [layer for layer in self._layers if layer in asked]

    @traitlets.validate("phases")
    def _known_phases(self, proposal: Any) -> list[str]:
        names = list(PHASE_NAMES.values())
        if set(proposal["value"]) - set(names):
            raise ValueError(f"phases must be some of {', '.join(names)}, got {', '.join(proposal['value'])}")
        return [name for name in names if name in proposal["value"]]

    @traitlets.validate("window")
    def _ordered(self, proposal: Any) -> tuple[float, float]:
        black, white = proposal["value"]
        if not (math.isfinite(black) and math.isfinite(white) and black < white):
            raise ValueError(f"window must be two grey values, the darker first, got {black} and {white}")
        return black, white

    def _listen(self, _widget: object, message: dict[str, Any], _buffers: object) -> None:
        """Hear what the browser asks."""
        if message.get("type") == "slices":
            self._serving.ask(message["plane"], list(map(int, message["indices"])), ahead=message["ahead"])
        elif message.get("type") == "closed":
            self._serving.sections.forget()


class Weights(_Widget):
    """Weights of the loss and the map that they make.

    Attributes
    ----------
    matrix, silicon, interface : float
        The weights; they follow the browser and move it.
    """

    _esm = script("weights")
    matrix = traitlets.Float(min=0.01).tag(sync=True)
    silicon = traitlets.Float(min=0.01).tag(sync=True)
    interface = traitlets.Float(min=0.01).tag(sync=True)
    pixels = traitlets.Bytes().tag(sync=True)

    def __init__(self, labels_yx: NDArray[np.uint8], start: PixelWeights) -> None:
        self._labels_yx = labels_yx
        packed = labels_yx.astype(np.uint8) | weight_regions(labels_yx) << 4
        highest = max(2.0, start.matrix, start.silicon, start.interface)
        scene = {
            "rows": labels_yx.shape[0],
            "columns": labels_yx.shape[1],
            "range": [min(1.0, start.matrix, start.silicon, start.interface), highest],
            "settings": [[s.matrix, s.silicon, s.interface] for s in PUBLISHED_SETTINGS],
            "colours": figures.colour_picture(np.linspace(0, 1, 256)[np.newaxis], 0.0, 1.0)[0].tolist(),
        }
        super().__init__("weights", scene, pixels=np.ascontiguousarray(packed).tobytes(), **vars(start))

    @property
    def weights(self) -> PixelWeights:
        """The weights as they stand, for `weight_map` or a training."""
        return PixelWeights(self.matrix, self.silicon, self.interface)

    @property
    def weight_yx(self) -> NDArray[np.float32]:
        """The map as it stands, float32 (Y, X)."""
        return weight_map(self._labels_yx, self.weights)


class Thresholds(_Widget):
    """Two grey values and the pixels between them.

    Attributes
    ----------
    low, high : float
        Pixels with low <= grey <= high are marked; both follow the browser and move it.
    """

    _esm = script("thresholds")
    low = traitlets.Float().tag(sync=True)
    high = traitlets.Float().tag(sync=True)
    pixels = traitlets.Bytes().tag(sync=True)

    def __init__(self, scan_yx: NDArray, low: float, high: float, phase: Phase) -> None:
        self._scan_yx = scan_yx
        grey = for_browser(scan_yx)
        scene = {
            "rows": grey.shape[0],
            "columns": grey.shape[1],
            "dtype": grey.dtype.name,
            "window": figures.grey_range(scan_yx),
            "phase": int(phase),
        }
        super().__init__("thresholds", scene, low=low, high=high, pixels=grey.tobytes())

    @property
    def marked_yx(self) -> NDArray[np.bool_]:
        """The pixels between the thresholds as they stand, bool (Y, X)."""
        return (self._scan_yx >= self.low) & (self._scan_yx <= self.high)
