"""Paints the defect that a caption names on a photo of a normal, with its mask.

No model, one core. `painter` reads the caption; `plan` settles what it leaves open; `scene` holds what is known of the
photo, and puts what the families paint (`lines`, `relief`, `coats`, `matter`, `borders`, `parts`) back into it.
"""
