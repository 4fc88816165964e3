"""A detector for use: trained, with a threshold, scoring files, exported."""
