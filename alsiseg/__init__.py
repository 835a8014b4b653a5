"""Segment tomographs of Al-Si cast alloys and measure their networks.

Implements Strohmann et al., Sci. Rep. 9:19611 (2019), doi 10.1038/s41598-019-56008-7. Every room
is imported by its name, e.g. ``from alsiseg import topology``; nothing heavy is loaded here.
"""

__version__ = "0.1.0"
