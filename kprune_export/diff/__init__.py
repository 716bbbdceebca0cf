"""What changed between two bundles: read, compared, and put into tables."""
