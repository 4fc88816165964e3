"""SimpleNet."""
