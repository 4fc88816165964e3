"""PatchCore: the distance of an image's patches to the nearest ones that normals have."""
