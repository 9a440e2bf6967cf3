"""Training rows: tokens, order, mixture, weights, collation."""
