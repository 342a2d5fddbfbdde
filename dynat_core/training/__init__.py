"""How networks are trained and measured while they are: strategies, optimisers, the epoch loop."""
