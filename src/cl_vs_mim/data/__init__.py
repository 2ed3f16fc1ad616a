"""Data sets: composed from the kit, or the real ones, in the same layouts."""
