"""What everything else stands on: errors, names of values, identities, signatures, strict models, units."""
