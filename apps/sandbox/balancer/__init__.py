"""Network load balancers that really balance: the data plane of moto's Elastic Load Balancing.

moto keeps load balancers, listeners, target groups and who is registered. Here is what it does not do: listen
on each listener's port of 127.0.0.1, check the targets' health, forward connections to those that are
healthy, and let connections finish when a target is taken out.

No Python library was found that does this: those that balance speak HTTP or are no longer kept, and Twisted's
portforward knows one target. asyncio does the hard part; what is left is a few hundred lines.
"""
