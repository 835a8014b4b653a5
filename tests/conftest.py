"""Settings shared by all tests."""

import matplotlib
from hypothesis import settings

matplotlib.use("Agg")
# The first example pays for imports; how long an example takes says nothing here.
settings.register_profile("alsiseg", deadline=None)
settings.load_profile("alsiseg")
