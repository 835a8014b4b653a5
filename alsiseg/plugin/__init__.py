"""The napari plugin: open, segment, measure and correct scans in a window, without a line of code.

`napari.yaml` tells napari what there is. The panels (`*_panel`) are thin: a form, a bar of progress and a table over
functions that need no window (`opening`, `segmenting`, `measuring`, `particles`, `retraining`), which call the rooms
below. `work` follows and stops what takes long, `layers` turns volumes into layers and back.
"""
