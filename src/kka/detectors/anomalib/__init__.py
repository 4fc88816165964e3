"""Image models of anomalib (https://github.com/open-edge-platform/anomalib, Apache-2.0) as detectors."""
