"""Settings shared by all tests."""

import os
import signal

# Networks and images of the tests are so small that threads would only wait for each other. Set before the first
# import of torch; commands and kernels that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background makes them, and what they start, deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

import matplotlib  # noqa: E402
from hypothesis import is_hypothesis_test, settings  # noqa: E402

matplotlib.use("Agg")
# The first example pays for imports; how long an example takes says nothing here.
settings.register_profile("alsiseg", deadline=None)
settings.load_profile("alsiseg")


def pytest_report_collectionfinish(config, items):
    """Say how many random cases the properties are held against."""
    n = sum(is_hypothesis_test(getattr(item, "obj", None)) for item in items)
    return f"{n} property tests, each on up to {settings.default.max_examples} random cases (hypothesis)"
