"""What is measured, as pure functions on tensors."""
