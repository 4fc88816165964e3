"""What works the experiments through: cells, pools, results, tables."""
