"""Densities that torch lacks, and the table of closed-form divergences.

Those of pixels (`pixel_*`) are `torch.distributions.Distribution`s over raw values. None checks its arguments, and none looks at values from
Python: all of them trace into one graph.
"""
