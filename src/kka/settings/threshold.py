"""How the threshold of a detector is set, where nothing else is asked for."""

HELD_OUT = 0.2
"""Share of the normals that sets the threshold and is not trained on."""
FPR = 0.05
"""Share of normals that the threshold may call anomalous."""
