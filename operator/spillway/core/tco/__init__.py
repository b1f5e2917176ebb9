"""Total cost of ownership: what `spillway plan` computes.

Pure arithmetic on prices, volumes and the replica model. The operator does not use it; it uses the
operator's own rules (`spillway.core.economics`, `spillway.core.retries`) where they answer the same
question.
"""
