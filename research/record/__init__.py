"""The record: events and the moves that write states, the audit chain, rights, money, the recipe's commits."""
