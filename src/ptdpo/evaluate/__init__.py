"""A model and questions to scored responses."""
