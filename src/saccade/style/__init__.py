"""Pictures in the style of others, by optimisation and by fast networks."""
