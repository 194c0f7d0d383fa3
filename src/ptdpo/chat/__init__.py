"""Asking a model over the network: the client, its store, and resumable jobs over many problems."""
