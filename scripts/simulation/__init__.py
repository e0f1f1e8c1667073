"""`scripts/simulate`: a coordinator's own code below thousands of simulated volunteers that come and go."""
