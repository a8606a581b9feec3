"""Tests of the simulated Customer Account API."""
