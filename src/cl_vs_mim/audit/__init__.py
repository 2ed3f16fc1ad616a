"""The audit: every claim of the paper as a contrast with an interval and a verdict by a written rule."""
