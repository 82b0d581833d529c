"""Agents that learn a latent world model from pixels and plan in it."""
