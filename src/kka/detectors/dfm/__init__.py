"""DFM: what of a photo's features the principal directions of the normals cannot say."""
