"""What may be done to a port: another layout, folded normalizations, repeated layers as blocks."""
