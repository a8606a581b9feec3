"""The schema's history. Each revision in `versions/` runs the plain SQL file of its name in `sql/`."""
