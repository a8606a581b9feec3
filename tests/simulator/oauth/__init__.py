"""Tests of the simulated apps and their tokens."""
