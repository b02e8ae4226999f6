"""proto <-> core, total and pure.

What the contract's rules let through is translated, or is an InvalidRequest that names its field; what the core gives
is always rendered.

Field paths in errors are the contract's own (proto names: `messages[0].tool_call_id`), as protovalidate and Envoy's
transcoder give them too, whichever spelling the caller used.
"""
