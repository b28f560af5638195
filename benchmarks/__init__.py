"""Side-by-side measurements, one script a comparison; run them from the repository root with `python -m`."""
