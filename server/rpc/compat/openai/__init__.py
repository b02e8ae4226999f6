"""OpenAI's dialect: Chat Completions and the list of models."""
