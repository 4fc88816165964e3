"""How good drawn pictures are, from features alone: words, Fréchet distance, copies; and a sheet to look at."""
