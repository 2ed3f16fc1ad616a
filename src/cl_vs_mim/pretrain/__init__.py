"""Pre-training: one readable file per objective, one training loop for all of them."""
