"""The page on which a person looks through a run's pictures, and what they say of them is kept."""
