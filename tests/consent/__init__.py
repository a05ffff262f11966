"""The consent firewall under attack: random lives of a small shop and its audience, and the rules that must hold.

``world`` is the shop, the sandbox and the pipeline between them; ``shop_steps``, ``remote_steps`` and ``runs`` are
what can happen; ``firewall`` says what a push may do to a contact's status; ``lives`` puts them together.
"""
