"""What is written down for good: events and the moves that make them, the audit chain, money, the recipe's commits."""
