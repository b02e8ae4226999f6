"""Providers over real HTTP for whole-gateway tests: one server that speaks Chat Completions (as each of the servers
that speak it), OpenAI's Responses, Anthropic's Messages, Gemini's generateContent (and Vertex AI's) and Bedrock's
Converse, and plays the same scenes on each.

What it plays is decided by the first word of the user's last text (`scenes.py`), so that a test asks the same thing of
every wire and knows what it must get.
"""

from tests.support.wires.server import WireServer, wire_server

__all__ = ["WireServer", "wire_server"]
