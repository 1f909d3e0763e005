"""The judge: keep, discard or inconclusive; and how long each stage took."""
