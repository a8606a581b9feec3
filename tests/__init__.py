"""Tests of Sellflow."""

import os

# A console reads its width when it is made, which is at import; a command's test says how wide its terminal is.
os.environ.pop("COLUMNS", None)
