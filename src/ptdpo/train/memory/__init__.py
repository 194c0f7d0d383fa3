"""How much memory a recipe needs on each GPU, from the model's configuration alone: no weights, no GPU."""
