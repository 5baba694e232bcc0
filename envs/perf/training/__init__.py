"""Training costs: layouts, iterations, their communication, profiles of gangs."""
