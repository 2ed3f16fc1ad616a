"""What encoders are good for: their features under other people's labels."""
