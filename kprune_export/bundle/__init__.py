"""The output folder: its layout, its manifest, how it is built, published and verified."""
