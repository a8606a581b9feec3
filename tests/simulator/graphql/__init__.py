"""Tests of the simulated Admin API."""
