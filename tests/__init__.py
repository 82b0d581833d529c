"""The tests. One thread to a process: sums this small wait for each other, and cores are shared."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, where torch and numpy are loaded
