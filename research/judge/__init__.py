"""Keep, discard, or say that it cannot be told; and how long each stage took."""
