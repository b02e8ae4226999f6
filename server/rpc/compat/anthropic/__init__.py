"""Anthropic's dialect: Messages and the list of models."""
