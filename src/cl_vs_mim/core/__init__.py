"""What everything stands on: files, tables, randomness, intervals, progress, errors."""
