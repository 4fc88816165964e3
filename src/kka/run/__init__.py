"""A whole run: models by name, Algorithm 1, the comparison of detectors, the report."""
