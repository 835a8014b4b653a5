"""Three-dimensional pictures without a screen: by OpenGL through PyVista, or plainly by NumPy."""

import functools
import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.figures import manner
from alsiseg.phases import PHASE_COLOURS, Phase

Renderer = Literal["auto", "opengl", "plain"]

PRINT_WIDTH_PX = round(manner.SINGLE_COLUMN_MM / 25.4 * manner.PRINT_DPI)
LARGEST_VOLUME = 24_000_000  # voxels drawn at full resolution; larger ones are drawn from every 2nd, 3rd... voxel
PROBE = """
import numpy, pyvista
plotter = pyvista.Plotter(off_screen=True, window_size=(64, 64))
plotter.add_mesh(pyvista.Sphere(), color="red")
picture = plotter.screenshot(return_img=True)
raise SystemExit(0 if numpy.ptp(picture) > 50 else 3)
"""


@dataclass(frozen=True)
class View:
    """A parallel projection of a volume, the same for both renderers. Vectors are x, y, z."""

    centre: NDArray[np.float64]
    half_size: NDArray[np.float64]
    forward: NDArray[np.float64]
    right: NDArray[np.float64]
    up: NDArray[np.float64]
    width_px: int
    height_px: int
    half_height: float

    @classmethod
    def of(cls, shape_zyx: tuple[int, ...], width_px: int) -> "View":
        """Look at a volume from a corner, a little from above, slice axis upwards; voxel centres are integers."""
        extent = np.array(shape_zyx[::-1], dtype=np.float64)
        forward = np.array([-0.78, -0.48, -0.40])
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        half_width = 1.03 * float(np.abs(right) @ extent) / 2
        half_height = 1.03 * float(np.abs(up) @ extent) / 2
        height_px = round(width_px * half_height / half_width)
        return cls((extent - 1) / 2, extent / 2, forward, right, up, width_px, height_px, half_height)

    @property
    def pixel(self) -> float:
        """Edge of a pixel in voxels."""
        return 2 * self.half_height / self.height_px

    @property
    def lights(self) -> list[tuple[NDArray[np.float64], float]]:
        """Directions towards the lights and their strengths: a key light from above left, a weak fill."""
        key = -0.75 * self.forward - 0.45 * self.right + 0.55 * self.up
        fill = -0.6 * self.forward + 0.8 * self.right
        return [(key / np.linalg.norm(key), 0.72), (fill / np.linalg.norm(fill), 0.22)]


def phases_picture(
    labels_zyx: NDArray[np.uint8], *, width_px: int = PRINT_WIDTH_PX, renderer: Renderer = "auto"
) -> NDArray[np.uint8]:
    """Draw silicon (green) and aluminides (red) of a label volume, as in Fig. 1 e.

    Parameters
    ----------
    labels_zyx : uint8 array (Z, Y, X)
    width_px, renderer
        As in `particle_pictures`.

    Returns
    -------
    uint8 array (rows, width_px, 3)
        White background, parallel projection, fixed camera and light, slice axis upwards.
    """
    colours = [PHASE_COLOURS[Phase.SILICON], PHASE_COLOURS[Phase.ALUMINIDE]]
    return draw_classes(labels_zyx, colours, width_px=width_px, renderer=renderer)


def draw_classes(
    classes_zyx: NDArray[np.uint8], colours: list[str], *, width_px: int, renderer: Renderer = "auto"
) -> NDArray[np.uint8]:
    """Draw the surfaces of classes 1, 2, ... in `colours`; 0 is empty. See `phases_picture`."""
    if renderer not in ("auto", "opengl", "plain"):
        raise ValueError(f'renderer must be "auto", "opengl" or "plain", got {renderer!r}')
    stride = int(np.ceil((classes_zyx.size / LARGEST_VOLUME) ** (1 / 3)))
    classes_zyx = np.ascontiguousarray(classes_zyx[::stride, ::stride, ::stride])
    view = View.of(classes_zyx.shape, width_px)
    if renderer == "auto":
        obstacle = opengl_obstacle()
        renderer = "plain" if obstacle else "opengl"
        if obstacle:
            warnings.warn(f"{obstacle}: 3-D pictures are drawn by the plain renderer", stacklevel=4)
    draw = draw_by_opengl if renderer == "opengl" else draw_plainly
    return draw(classes_zyx, colours, view)


@functools.cache
def opengl_obstacle() -> str:
    """Say why OpenGL cannot draw off-screen here; empty when it can.

    Tried once, in a process of its own: VTK ends the whole process on some machines without graphics
    libraries.
    """
    try:
        probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=120, text=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no OpenGL library (the trial ended with {type(error).__name__})"
    if "No module named" in probe.stderr:
        return "PyVista is not installed (pip install pyvista)"
    return "" if probe.returncode == 0 else f"no OpenGL library (the trial ended with status {probe.returncode})"


def draw_by_opengl(classes_zyx: NDArray[np.uint8], colours: list[str], view: View) -> NDArray[np.uint8]:
    """Draw smoothed surfaces of the classes with PyVista, off-screen."""
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)  # "bad X server connection" is no news without a screen
    plotter = pyvista.Plotter(off_screen=True, window_size=[2 * view.width_px, 2 * view.height_px], lighting="none")
    try:
        _fill_scene(plotter, classes_zyx, colours, view)
        picture = plotter.screenshot(return_img=True)
    finally:
        plotter.close()
        vtkLogger.SetStderrVerbosity(verbosity)
    return _halve(np.asarray(picture)[..., :3].astype(np.float32))


def _fill_scene(plotter, classes_zyx: NDArray[np.uint8], colours: list[str], view: View) -> None:  # type: ignore[no-untyped-def]
    """Put surfaces, frame, lights and camera into the scene."""
    import pyvista

    grid = pyvista.ImageData(dimensions=classes_zyx.shape[::-1])
    grid.point_data["class"] = classes_zyx.ravel()  # x runs fastest in both
    plotter.set_background("white")
    if classes_zyx.any():
        # Where two classes touch no surface lies between them: its polygons would bend the normals at its rim, dark
        # lines like cracks. The smoothing keeps every voxel, so that sheets of one voxel stay whole.
        surface = grid.contour_labels(
            "external", scalars="class", smoothing_iterations=16, smoothing_distance=0.5, progress_bar=False
        )
        surface.cell_data["colour"] = _palette_bytes(colours)[surface.cell_data["boundary_labels"].astype(int)]
        # The faces are turned outwards already; turning them again goes wrong where surfaces meet in one edge.
        surface = surface.compute_normals(cell_normals=False, split_vertices=False, consistent_normals=False)
        drawn = plotter.add_mesh(surface, scalars="colour", rgb=True, ambient=0.36, diffuse=1.0, specular=0.1)
        drawn.prop.interpolation = "Phong"  # `smooth_shading` would compute the normals once more
    bounds = [b for c, h in zip(view.centre, view.half_size, strict=True) for b in (c - h, c + h)]
    plotter.add_mesh(pyvista.Box(bounds).extract_all_edges(), color="#555555", line_width=2)
    for direction, strength in view.lights:
        light = pyvista.Light(position=view.centre + 1e4 * direction, focal_point=view.centre, intensity=strength)
        light.positional = False
        plotter.add_light(light)
    distance = 4 * float(view.half_size.sum())
    plotter.camera_position = [view.centre - distance * view.forward, view.centre, view.up]
    plotter.camera.parallel_projection = True
    plotter.camera.parallel_scale = view.half_height
    plotter.camera.clipping_range = (0.2 * distance, 2 * distance)


def draw_plainly(classes_zyx: NDArray[np.uint8], colours: list[str], view: View) -> NDArray[np.uint8]:
    """Draw the same picture with NumPy alone: the first voxel each line of sight meets, shaded by its slope."""
    fine = replace(view, width_px=2 * view.width_px, height_px=2 * view.height_px)
    depth, entry_points = _rays(fine)
    hit, points = _march(classes_zyx, entry_points, fine)
    picture = np.full((*depth.shape, 3), 255.0, dtype=np.float32)
    index = tuple(np.round(points).astype(np.intp)[:, axis] for axis in (2, 1, 0))
    base = _palette_bytes(colours)[classes_zyx[index]].astype(np.float32)
    picture.reshape(-1, 3)[hit] = base * _shade(classes_zyx, points, fine)[:, None]
    depth.ravel()[hit] = (points - fine.centre) @ fine.forward
    _draw_frame(picture, depth, fine)
    return _halve(np.clip(picture, 0, 255))


def _rays(view: View) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth map (all empty) and, per pixel, where its line of sight enters the box; NaN where it misses."""
    columns = (np.arange(view.width_px) + 0.5 - view.width_px / 2) * view.pixel
    rows = (view.height_px / 2 - np.arange(view.height_px) - 0.5) * view.pixel
    plane = rows[:, None, None] * view.up + columns[None, :, None] * view.right
    near = ((-np.sign(view.forward) * view.half_size) - plane) / view.forward
    far = ((np.sign(view.forward) * view.half_size) - plane) / view.forward
    entry, leave = near.max(axis=-1), far.min(axis=-1)
    points = view.centre + plane + np.where(entry < leave, entry, np.nan)[..., None] * view.forward
    depth = np.full((view.height_px, view.width_px), np.inf, dtype=np.float32)
    return depth, points.reshape(-1, 3).astype(np.float32)


def _march(
    classes_zyx: NDArray[np.uint8], entry_points: NDArray[np.float32], view: View
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Step along every line of sight until it meets a voxel that is not empty: pixel numbers and points."""
    step = (0.5 * view.forward).astype(np.float32)
    last = np.array(classes_zyx.shape[::-1]) - 1
    pixel = np.flatnonzero(np.isfinite(entry_points[:, 0]))
    points = entry_points[pixel] + np.float32(1e-3) * step
    found_pixels, found_points = [pixel[:0]], [points[:0]]
    while len(pixel):
        voxel = np.round(points).astype(np.int32)
        inside = ((voxel >= 0) & (voxel <= last)).all(axis=1)
        pixel, points, voxel = pixel[inside], points[inside], voxel[inside]
        met = classes_zyx[voxel[:, 2], voxel[:, 1], voxel[:, 0]] > 0
        found_pixels.append(pixel[met])
        found_points.append(points[met])
        pixel, points = pixel[~met], points[~met] + step
    return np.concatenate(found_pixels), np.concatenate(found_points)


def _shade(classes_zyx: NDArray[np.uint8], points: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Brightness 0..1.1 of surface points from the slope of the smoothed network and their depth."""
    solid = ndimage.gaussian_filter((np.pad(classes_zyx, 3) > 0).astype(np.float32), 1.2)
    at = points[:, ::-1].T + 3
    normal = np.zeros_like(points)
    for axis in range(3):
        shift = np.zeros((3, 1), dtype=np.float32)
        shift[axis] = 1
        before = ndimage.map_coordinates(solid, at - shift, order=1)
        normal[:, 2 - axis] = before - ndimage.map_coordinates(solid, at + shift, order=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    lit = sum(strength * np.clip(normal @ direction, 0, None) for direction, strength in view.lights)
    depth = (points - view.centre) @ view.forward
    fog = 1 - 0.18 * np.clip(0.5 + depth / (2 * np.linalg.norm(view.half_size)), 0, 1)
    return ((0.40 + lit) * fog).astype(np.float32)


def _draw_frame(picture: NDArray[np.float32], depth: NDArray[np.float32], view: View) -> None:
    """Draw the edges of the volume into the picture where nothing hides them."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * view.half_size
    along = np.linspace(0, 1, 3 * max(view.width_px, view.height_px))[:, None]
    for i, start in enumerate(corners):
        for end in corners[i + 1 :]:
            if np.count_nonzero(start != end) != 1:
                continue
            line = start + along * (end - start)
            column = np.floor(line @ view.right / view.pixel + view.width_px / 2).astype(int)
            row = np.floor(view.height_px / 2 - line @ view.up / view.pixel).astype(int)
            free = line @ view.forward <= depth[row, column] + 0.5
            for down, across in ((0, 0), (1, 0), (0, 1), (1, 1)):  # two pixels wide, one after halving
                picture[row[free] + down, column[free] + across] = 85.0


def _palette_bytes(colours: list[str]) -> NDArray[np.uint8]:
    """Colours of classes 0 (white), 1, 2, ... as bytes."""
    return np.round(255 * np.array([to_rgb(c) for c in ("white", *colours)])).astype(np.uint8)


def _halve(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Average blocks of 2 x 2 pixels: smooth edges."""
    rows, columns = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    blocks = picture[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2, 3)
    return np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)
