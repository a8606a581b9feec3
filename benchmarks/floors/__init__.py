"""Floors: what parts of the work cost alone, so that a figure can be read; they are outside every ratio."""
