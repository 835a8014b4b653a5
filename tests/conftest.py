"""Settings shared by all tests."""

import os

# Networks and images of the tests are so small that threads would only wait for each other. Set before the first
# import of torch; commands and kernels that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
from hypothesis import settings

matplotlib.use("Agg")
# The first example pays for imports; how long an example takes says nothing here.
settings.register_profile("alsiseg", deadline=None)
settings.load_profile("alsiseg")
