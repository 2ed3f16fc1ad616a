"""Tidy tables in, figures out: each module draws one figure of the paper."""
