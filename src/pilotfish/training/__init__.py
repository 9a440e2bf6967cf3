"""The strong stage: rows and a model in, a trained standard model folder out."""
