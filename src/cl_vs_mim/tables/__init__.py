"""Results as tables for people: CSV, Markdown and LaTeX."""
