"""Claude as a proposer: ``proposer`` asks, ``prompt`` writes, ``client`` calls, ``reply`` parses, ``prices`` counts."""
