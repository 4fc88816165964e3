"""SSD and CMDA: detectors on an encoder that contrastive learning trains."""
