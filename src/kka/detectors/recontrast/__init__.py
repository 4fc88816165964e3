"""ReContrast."""
