"""Tests of the simulated admin and of app proxies."""
