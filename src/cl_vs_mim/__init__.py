"""Replication and audit of "What Do Self-Supervised Vision Transformers Learn?" (Park et al., ICLR 2023)."""

__version__ = "0.1.0"
