"""What every party of a run computes or parses alike, byte for byte."""
