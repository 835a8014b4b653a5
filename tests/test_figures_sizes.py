import matplotlib
import numpy as np
import pytest

from alsiseg import figures, metrics
from alsiseg.phases import NETWORKS

EDGES_UM = np.array([20.0, 40.0, 60.0])


def curve(mean: float, unit: str) -> metrics.SizeCurve:
    spread = abs(mean) * np.array([0.8, 0.2, 0.05])
    return metrics.SizeCurve(EDGES_UM, np.full(3, mean), spread, np.array([90, 27, 8]), unit)


CURVES = {
    network: {
        "volume_fraction_pct": curve(10.0 * (i + 1), "vol.%"),
        "euler_density_corrected_per_mm3": curve(-1e5 * (i + 1), "1/mm3"),
    }
    for i, network in enumerate(NETWORKS)
}


def test_value_and_spread_of_every_network_stand_against_the_edge():
    figure = figures.representative_volumes(CURVES)
    fraction, euler, *relative = figure.axes
    for axes, factor, quantity in (
        (fraction, 1, "volume_fraction_pct"),
        (euler, 1e-6, "euler_density_corrected_per_mm3"),
    ):
        for line, network in zip(axes.lines, NETWORKS, strict=True):
            assert line.get_xdata() == pytest.approx(EDGES_UM)
            assert line.get_ydata() == pytest.approx(factor * CURVES[network][quantity].mean)
        lowest = min(band.get_paths()[0].vertices[:, 1].min() for band in axes.collections)
        assert lowest == pytest.approx(
            factor * min((c[quantity].mean - c[quantity].spread).min() for c in CURVES.values())
        )
    for axes in relative:
        *networks, enough = axes.lines
        assert all(line.get_ydata() == pytest.approx([80, 20, 5]) for line in networks)
        assert set(enough.get_ydata()) == {5.0}
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "volume fraction (vol.%)",
        "Euler number (10$^6$ mm$^{-3}$)",
        *["spread / mean (%)"] * 2,
    ]
    assert {axes.get_xlabel() for axes in relative} == {"edge of the cubes (µm)"}


def test_the_figure_is_a_double_column_with_readable_text_on_the_page():
    figure = figures.representative_volumes(CURVES, enough_pct=10)
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(figures.DOUBLE_COLUMN_MM)
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]
    assert min(sizes) >= 5.5
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


def test_networks_are_told_apart_without_colour():
    markers = {line.get_marker() for line in figures.representative_volumes(CURVES).axes[0].lines}
    assert len(markers) == len(NETWORKS)


def test_an_empty_network_has_no_relative_spread():
    empty = {"volume_fraction_pct": curve(0.0, "vol.%"), "euler_density_corrected_per_mm3": curve(0.0, "1/mm3")}
    figure = figures.representative_volumes({"silicon": empty, "hybrid": CURVES["hybrid"]})
    figure.draw_without_rendering()
    assert np.isnan(figure.axes[2].lines[0].get_ydata()).all()
