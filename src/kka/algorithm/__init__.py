"""Algorithm 1 and its equations, one room each. It knows protocols, and no member of any family."""
