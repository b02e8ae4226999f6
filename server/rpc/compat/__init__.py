"""Other APIs' dialects, for applications that were written for them: pure translation between a dialect and the core,
on one side of the same gateway. One package a dialect; what they share stands here beside them. See docs/dialects.md.
"""
